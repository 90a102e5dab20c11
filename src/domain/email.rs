//! E-mail addresses, and when two of them are the same account.

use diesel::{deserialize::FromSqlRow, expression::AsExpression};
use email_address::Options;
use unicode_normalization::UnicodeNormalization as _;

use crate::domain::text::fold;

/// RFC 5321 section 4.5.3.1.3, less the angle brackets.
const MAX_BYTES: usize = 254;

/// A valid address as its owner wrote it, with the form that it is compared by.
#[derive(Debug, Clone)]
pub struct Email {
    written: String,
    key: EmailKey,
}

/// An address folded for comparison. Equal for every spelling that reaches one mailbox in practice:
/// upper and lower case, composed and decomposed letters, full-width forms, a domain in Unicode or
/// in Punycode.
#[derive(Debug, Clone, PartialEq, Eq, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = diesel::sql_types::Text)]
pub struct EmailKey(pub(crate) String);

impl Email {
    /// Checks an address (RFC 5321, RFC 6531; no quoted local part, no address literal).
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const REMEDY: &str = "must be an e-mail address such as ada@example.com";
        let options = Options::default()
            .without_domain_literal()
            .without_display_text();
        // What is longer in any Unicode form is no address, and not worth the work of folding it.
        if text.len() > 3 * MAX_BYTES {
            return Err(REMEDY);
        }
        let written: String = text.nfc().collect();
        let address = email_address::EmailAddress::parse_with_options(&written, options)
            .map_err(|_| REMEDY)?;
        if written.len() > MAX_BYTES || address.local_part().starts_with('"') {
            return Err(REMEDY);
        }
        let domain = idna::domain_to_ascii(address.domain()).map_err(|_| REMEDY)?;
        let key = EmailKey(format!("{}@{domain}", fold(address.local_part())));
        Ok(Self { written, key })
    }

    /// As its owner wrote it.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// The form that is unique among the accounts.
    pub fn key(&self) -> &EmailKey {
        &self.key
    }

    /// Only that form.
    pub fn into_key(self) -> EmailKey {
        self.key
    }
}

impl EmailKey {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &str, b: &str) -> bool {
        match (Email::parse(a), Email::parse(b)) {
            (Ok(a), Ok(b)) => a.key() == b.key(),
            _ => panic!("{a} and {b} should both be addresses"),
        }
    }

    #[test]
    fn case_and_unicode_form_do_not_tell_addresses_apart() {
        assert!(same("ada@example.com", "Ada@EXAMPLE.com"));
        assert!(same("jos\u{e9}@example.com", "jose\u{301}@example.com"));
        assert!(same("stra\u{df}e@example.com", "STRASSE@example.com"));
        assert!(same("\u{ff41}da@example.com", "ada@example.com"));
        assert!(same("a@b\u{fc}cher.example", "a@xn--bcher-kva.example"));
        assert!(same(
            "\u{3a3}\u{3a3}@example.com",
            "\u{3c3}\u{3c2}@example.com"
        ));
    }

    #[test]
    fn different_addresses_stay_different() {
        assert!(!same("ada@example.com", "ada@example.org"));
        assert!(!same("ada@example.com", "ada.l@example.com"));
        assert!(!same("ada@example.com", "ada+keys@example.com"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "ada",
            "@example.com",
            "ada@",
            "ada@@example.com",
            "ada @example.com",
            " ada@example.com",
            "ada@example.com\n",
            "Ada <ada@example.com>",
            "ada@[127.0.0.1]",
            "\"ada lovelace\"@example.com",
            &format!("{}@example.com", "a".repeat(65)),
            &format!("a@{}.com", "b".repeat(260)),
        ] {
            assert!(Email::parse(text).is_err(), "{text:?}");
        }
    }
}
