//! How is a failure told to containerd? By a code that it acts on and one line that a person reads.
//!
//! Key type: [`Failure`].

use control::FailureKind;
use sandbox::Error;
use ttrpc::Code;

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
}

/// What a request brings.
pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into().replace('\n', " ") }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NOT_FOUND, message)
    }

    pub(crate) fn precondition(message: impl Into<String>) -> Self {
        Self::new(Code::FAILED_PRECONDITION, message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::INVALID_ARGUMENT, message)
    }
}

/// What was asked of a process that did not come to life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Create,
    Exec,
}

impl Failure {
    /// Why a process did not come to life. Where it is the program's fault it is said in runc's words and with its code:
    /// clients look for them, docker for its statuses 126 and 127.
    pub(crate) fn of_process(asked: Asked, error: Error) -> Self {
        if !matches!(&error, Error::Call(call) if call.kind() == FailureKind::InvalidArgument) {
            return error.into();
        }
        let what = match asked {
            Asked::Create => "OCI runtime create failed",
            Asked::Exec => "OCI runtime exec failed: exec failed",
        };
        Self::new(Code::UNKNOWN, format!("{what}: unable to start container process: {error}"))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Code::UNKNOWN, format!("{error:#}"))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Code::UNKNOWN, error.to_string())
    }
}

impl From<sandbox::plan::PlanError> for Failure {
    fn from(error: sandbox::plan::PlanError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Call(call) => call.kind(),
            _ => FailureKind::Internal,
        };
        let code = match kind {
            FailureKind::NotFound => Code::NOT_FOUND,
            FailureKind::AlreadyExists => Code::ALREADY_EXISTS,
            FailureKind::FailedPrecondition => Code::FAILED_PRECONDITION,
            FailureKind::InvalidArgument => Code::INVALID_ARGUMENT,
            FailureKind::Internal => Code::UNKNOWN,
        };
        Self::new(code, error.to_string())
    }
}

impl From<Failure> for ttrpc::Error {
    fn from(failure: Failure) -> Self {
        Self::RpcStatus(ttrpc::get_status(failure.code, failure.message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandbox::client::CallError;

    fn refused(kind: FailureKind, text: &str) -> Error {
        Error::Call(CallError::Refused(control::Failure { kind, message: text.to_owned() }))
    }

    #[test]
    fn a_program_that_is_not_there_is_told_in_runcs_words() {
        let text = "exec: \"/no\": stat /no: no such file or directory";
        let failure = Failure::of_process(Asked::Exec, refused(FailureKind::InvalidArgument, text));
        assert_eq!(failure.code, Code::UNKNOWN);
        let start = "OCI runtime exec failed: exec failed: unable to start container process: ";
        assert_eq!(failure.message, format!("{start}{text}"));
        let other = Failure::of_process(Asked::Exec, refused(FailureKind::NotFound, "no container c"));
        assert_eq!((other.code, other.message.as_str()), (Code::NOT_FOUND, "no container c"));
    }
}
