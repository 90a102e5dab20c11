//! Failed logins, counted by all instances together.

use std::time::Duration;

use super::{Redis, Unreachable};

/// Subject whose failed logins are counted: an account or a client address.
#[derive(Debug, Clone)]
pub(crate) struct LoginSubject {
    /// The Redis key.
    pub name: String,
    /// Number of failures allowed within the window.
    pub limit: usize,
}

/// Result of a step: whether a login attempt may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoginPermit {
    Granted,
    /// The subject with this index has too many failures.
    Throttled {
        subject: usize,
        wait: Duration,
    },
    /// Too many attempts are in progress: if all failed, the limit would be reached.
    TooManyInProgress,
}

/// Step in the life of one login attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoginStep {
    /// Only reads whether an attempt may begin.
    Ask,
    Begin,
    /// Ends the attempt as a failure.
    Fail,
    /// Ends the attempt without counting it.
    Forgive,
}

impl LoginStep {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ask => "ask",
            Self::Begin => "begin",
            Self::Fail => "fail",
            Self::Forgive => "forgive",
        }
    }
}

impl Redis {
    /// Records a step of the attempt `id` for both of its subjects. A failure counts for the time `window`.
    pub(crate) async fn login_step(
        &self,
        step: LoginStep,
        id: &str,
        subjects: &[LoginSubject; 2],
        window: Duration,
    ) -> Result<LoginPermit, Unreachable> {
        let mut script = self.shared.login_script.prepare_invoke();
        for subject in subjects {
            script.key(&subject.name);
        }
        let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        script.arg(step.as_str()).arg(id).arg(window);
        for subject in subjects {
            script.arg(subject.limit);
        }
        let ((subject, wait), _): ((i64, i64), _) = self.invoke(&script).await?;
        Ok(match usize::try_from(subject) {
            Ok(0) => LoginPermit::Granted,
            Ok(number) => LoginPermit::Throttled {
                subject: number - 1,
                wait: Duration::from_millis(u64::try_from(wait).unwrap_or(0)),
            },
            Err(_) => LoginPermit::TooManyInProgress,
        })
    }
}
