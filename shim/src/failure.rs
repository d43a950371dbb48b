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
