//! E-mail addresses, and the folded form that identifies an account.

use diesel::{deserialize::FromSqlRow, expression::AsExpression};
use email_address::Options;
use unicode_normalization::UnicodeNormalization as _;

use super::text::fold;

/// Maximum length: that of RFC 5321 section 4.5.3.1.3, without the angle brackets.
const MAX_BYTES: usize = 254;

/// Valid address as its owner wrote it, with the folded form for comparison.
#[derive(Debug, Clone)]
pub struct Email {
    written: String,
    key: EmailKey,
}

/// Address folded for comparison. It is equal for spellings that reach the same mailbox in practice: upper and lower
/// case, composed and decomposed letters, full-width forms, and a domain in Unicode or in Punycode.
#[derive(Debug, Clone, PartialEq, Eq, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = diesel::sql_types::Text)]
pub struct EmailKey(pub(crate) String);

impl Email {
    /// Parses an address (RFC 5321, RFC 6531). Quoted local parts and address literals are rejected.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const REMEDY: &str = "must be an e-mail address such as ada@example.com";
        let options = Options::default()
            .without_domain_literal()
            .without_display_text();
        // A text of this length is too long in every Unicode form. Do not spend the work of folding it.
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

    /// Returns the address as its owner wrote it.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Returns the folded form, which is unique among the accounts.
    pub fn key(&self) -> &EmailKey {
        &self.key
    }

    /// Converts the address into its folded form.
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

    fn have_same_key(a: &str, b: &str) -> bool {
        match (Email::parse(a), Email::parse(b)) {
            (Ok(a), Ok(b)) => a.key() == b.key(),
            _ => panic!("{a} and {b} should both be addresses"),
        }
    }

    #[test]
    fn addresses_that_differ_in_case_or_unicode_form_are_equal() {
        assert!(have_same_key("ada@example.com", "Ada@EXAMPLE.com"));
        assert!(have_same_key(
            "jos\u{e9}@example.com",
            "jose\u{301}@example.com"
        ));
        assert!(have_same_key(
            "stra\u{df}e@example.com",
            "STRASSE@example.com"
        ));
        assert!(have_same_key("\u{ff41}da@example.com", "ada@example.com"));
        assert!(have_same_key(
            "a@b\u{fc}cher.example",
            "a@xn--bcher-kva.example"
        ));
        assert!(have_same_key(
            "\u{3a3}\u{3a3}@example.com",
            "\u{3c3}\u{3c2}@example.com"
        ));
    }

    #[test]
    fn different_addresses_are_not_equal() {
        assert!(!have_same_key("ada@example.com", "ada@example.org"));
        assert!(!have_same_key("ada@example.com", "ada.l@example.com"));
        assert!(!have_same_key("ada@example.com", "ada+keys@example.com"));
    }

    #[test]
    fn invalid_address_is_rejected() {
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
