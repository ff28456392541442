//! Error codes: the one table that says, for every code, its string, number, HTTP status, gRPC status and default text.
//!
//! Owns the table (spec 01 §5) and the lookups in it. Never carries an error itself: that is [`crate::failure`].

use std::fmt;
use std::str::FromStr;

use tonic::Code;

macro_rules! error_codes {
    ($($name:ident = $text:literal, $number:literal $kind:ident, $http:literal, $grpc:ident, $message:literal;)*) => {
        /// What went wrong, as clients and services name it. Clients branch on the code string only.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $(#[doc = $message] $name,)*
        }

        const ROWS: &[Row] = &[
            $(Row {
                code: ErrorCode::$name,
                text: $text,
                number: $number,
                owns_number: owns!($kind),
                http: $http,
                grpc: Code::$grpc,
                message: $message,
            },)*
        ];
    };
}

macro_rules! owns {
    (own) => {
        true
    };
    (edge) => {
        false
    };
}

struct Row {
    code: ErrorCode,
    text: &'static str,
    number: i32,
    owns_number: bool,
    http: u16,
    grpc: Code,
    message: &'static str,
}

// Code string, number ("edge": it has none of its own and borrows the nearest), HTTP status, gRPC status, default text.
// The last two stand in the pipeline's rules (B1, A2), not in the spec's table; StaleWriter never reaches a client.
error_codes! {
    InvalidParams = "INVALID_PARAMS", 1001 own, 400, InvalidArgument, "a field is missing or malformed";
    MissingQuery = "MISSING_QUERY", 1001 edge, 400, InvalidArgument, "the search text is missing";
    Unauthorized = "UNAUTHORIZED", 1002 own, 401, Unauthenticated, "credentials are required";
    InvalidTokenFormat = "INVALID_TOKEN_FORMAT", 2003 edge, 401, Unauthenticated, "the Authorization header holds no bearer token";
    InvalidToken = "INVALID_TOKEN", 2003 own, 401, Unauthenticated, "the token is invalid or revoked";
    TokenExpired = "TOKEN_EXPIRED", 2004 own, 401, Unauthenticated, "the token has expired";
    TokenReused = "TOKEN_REUSED", 2003 edge, 401, Unauthenticated, "the refresh token was used before";
    AuthFailed = "AUTH_FAILED", 1002 edge, 401, Unauthenticated, "authentication failed or was lost";
    AuthInvalidCredentials = "AUTH_INVALID_CREDENTIALS", 2002 own, 401, Unauthenticated, "wrong username or password";
    Forbidden = "FORBIDDEN", 1003 own, 403, PermissionDenied, "this is not allowed";
    GuestForbidden = "GUEST_FORBIDDEN", 1003 edge, 403, PermissionDenied, "guests may not do this";
    GuestDisabled = "GUEST_DISABLED", 1003 edge, 403, PermissionDenied, "guest access is off";
    NotConversationMember = "NOT_CONVERSATION_MEMBER", 4001 own, 403, PermissionDenied, "not a member of this conversation";
    InsufficientPermission = "INSUFFICIENT_PERMISSION", 4003 own, 403, PermissionDenied, "the role is too low for this";
    Muted = "MUTED", 4008 own, 403, PermissionDenied, "the sender is muted here";
    Blocked = "BLOCKED", 5006 own, 403, PermissionDenied, "the other side has blocked this";
    NotFound = "NOT_FOUND", 1004 own, 404, NotFound, "no such route or object";
    UserNotFound = "USER_NOT_FOUND", 2000 own, 404, NotFound, "no such user";
    MessageNotFound = "MESSAGE_NOT_FOUND", 3000 own, 404, NotFound, "no such message";
    ConversationNotFound = "CONVERSATION_NOT_FOUND", 4000 own, 404, NotFound, "no such conversation";
    FriendRequestNotFound = "FRIEND_REQUEST_NOT_FOUND", 5000 own, 404, NotFound, "no such friend request";
    NotFriends = "NOT_FRIENDS", 5003 own, 404, NotFound, "not friends";
    FileNotFound = "FILE_NOT_FOUND", 6000 own, 404, NotFound, "no such file";
    UserAlreadyExists = "USER_ALREADY_EXISTS", 2001 own, 400, AlreadyExists, "the username is taken";
    InvalidUsername = "INVALID_USERNAME", 2006 own, 400, InvalidArgument, "the username is not allowed";
    WeakPassword = "WEAK_PASSWORD", 2007 own, 400, InvalidArgument, "the password is too weak";
    UserDisabled = "USER_DISABLED", 2005 own, 423, PermissionDenied, "the account is disabled";
    DuplicateMessage = "DUPLICATE_MESSAGE", 3001 own, 409, AlreadyExists, "the message was sent before";
    InvalidMessage = "INVALID_MESSAGE", 3002 own, 400, InvalidArgument, "the message was not understood";
    MessageTooLarge = "MESSAGE_TOO_LARGE", 3003 own, 413, InvalidArgument, "the message is too large";
    MessageEmpty = "MESSAGE_EMPTY", 3004 own, 400, InvalidArgument, "the message is empty";
    UnsupportedMessageType = "UNSUPPORTED_MESSAGE_TYPE", 3005 own, 400, InvalidArgument, "this message type is not supported";
    MessageRecalled = "MESSAGE_RECALLED", 3006 own, 409, FailedPrecondition, "the message is already recalled";
    RecallTimeExceeded = "RECALL_TIME_EXCEEDED", 3007 own, 400, FailedPrecondition, "the time to recall the message is over";
    ConversationFull = "CONVERSATION_FULL", 4002 own, 400, ResourceExhausted, "the conversation is full";
    ConversationDissolved = "CONVERSATION_DISSOLVED", 4004 own, 410, FailedPrecondition, "the conversation is dissolved";
    UserAlreadyInConversation = "USER_ALREADY_IN_CONVERSATION", 4005 own, 409, AlreadyExists, "the user is already a member";
    InvalidConversationName = "INVALID_CONVERSATION_NAME", 4006 own, 400, InvalidArgument, "the conversation name is not allowed";
    CannotLeaveConversation = "CANNOT_LEAVE_CONVERSATION", 4007 own, 400, FailedPrecondition, "this conversation cannot be left";
    VersionConflict = "VERSION_CONFLICT", 1008 own, 409, Aborted, "changed meanwhile: reload, then retry";
    FriendRequestAlreadyExists = "FRIEND_REQUEST_ALREADY_EXISTS", 5001 own, 409, AlreadyExists, "the friend request was sent before";
    AlreadyFriends = "ALREADY_FRIENDS", 5002 own, 409, AlreadyExists, "already friends";
    CannotAddSelfAsFriend = "CANNOT_ADD_SELF_AS_FRIEND", 5004 own, 400, InvalidArgument, "one cannot befriend oneself";
    FriendRequestAlreadyHandled = "FRIEND_REQUEST_ALREADY_HANDLED", 5005 own, 409, FailedPrecondition, "the friend request is already handled";
    UnsupportedFileFormat = "UNSUPPORTED_FILE_FORMAT", 6001 own, 400, InvalidArgument, "this file format is not supported";
    FileTooLarge = "FILE_TOO_LARGE", 6002 own, 413, InvalidArgument, "the file is too large";
    FileUploadFailed = "FILE_UPLOAD_FAILED", 6003 own, 503, Unavailable, "the upload failed";
    FileDownloadFailed = "FILE_DOWNLOAD_FAILED", 6004 own, 503, Unavailable, "the download failed";
    RateLimited = "RATE_LIMITED", 1005 own, 429, ResourceExhausted, "too many requests";
    InternalError = "INTERNAL_ERROR", 1000 own, 500, Internal, "something went wrong here";
    ServiceUnavailable = "SERVICE_UNAVAILABLE", 1006 own, 503, Unavailable, "not available right now, safe to retry";
    Timeout = "TIMEOUT", 1007 own, 504, DeadlineExceeded, "this took too long";
    ClientMsgIdReused = "CLIENT_MSG_ID_REUSED", 3008 own, 409, FailedPrecondition, "this client_msg_id was used for another message";
    StaleWriter = "STALE_WRITER", 1009 own, 503, FailedPrecondition, "this writer has been superseded";
}

impl ErrorCode {
    /// Every code, in the order of the table.
    pub fn all() -> impl Iterator<Item = ErrorCode> {
        ROWS.iter().map(|row| row.code)
    }

    /// The code string that clients see, e.g. `RATE_LIMITED`.
    pub fn as_str(self) -> &'static str {
        self.row().text
    }

    /// Number of `common.v1.ErrorCode`; a code without one of its own gives the nearest.
    pub fn number(self) -> i32 {
        self.row().number
    }

    /// False for a code that exists only by its string and borrows another code's number.
    pub fn owns_number(self) -> bool {
        self.row().owns_number
    }

    /// HTTP status of a response that fails with this code.
    pub fn http_status(self) -> u16 {
        self.row().http
    }

    /// gRPC status of a call that fails with this code.
    pub fn grpc_code(self) -> Code {
        self.row().grpc
    }

    /// English text for a reader, used where no better one is known.
    pub fn default_message(self) -> &'static str {
        self.row().message
    }

    /// The code that owns `number`; `None` for 0 and for numbers this version does not know.
    pub fn from_number(number: i32) -> Option<ErrorCode> {
        ROWS.iter().find(|row| row.number == number && row.owns_number).map(|row| row.code)
    }

    fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not a code string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an error code")]
pub struct UnknownErrorCode;

impl FromStr for ErrorCode {
    type Err = UnknownErrorCode;

    fn from_str(text: &str) -> Result<ErrorCode, UnknownErrorCode> {
        ROWS.iter().find(|row| row.text == text).map(|row| row.code).ok_or(UnknownErrorCode)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::common::v1 as wire;

    /// The rows of spec 01 §5 as they stand there (parentheses: a borrowed number), plus the two of the pipeline's rules.
    const SPEC: &str = "\
400 INVALID_PARAMS 1001 INVALID_ARGUMENT\n\
400 MISSING_QUERY (1001) INVALID_ARGUMENT\n\
401 UNAUTHORIZED 1002 UNAUTHENTICATED\n\
401 INVALID_TOKEN_FORMAT (2003) UNAUTHENTICATED\n\
401 INVALID_TOKEN 2003 UNAUTHENTICATED\n\
401 TOKEN_EXPIRED 2004 UNAUTHENTICATED\n\
401 TOKEN_REUSED (2003) UNAUTHENTICATED\n\
401 AUTH_FAILED (1002) UNAUTHENTICATED\n\
401 AUTH_INVALID_CREDENTIALS 2002 UNAUTHENTICATED\n\
403 FORBIDDEN 1003 PERMISSION_DENIED\n\
403 GUEST_FORBIDDEN (1003) PERMISSION_DENIED\n\
403 GUEST_DISABLED (1003) PERMISSION_DENIED\n\
403 NOT_CONVERSATION_MEMBER 4001 PERMISSION_DENIED\n\
403 INSUFFICIENT_PERMISSION 4003 PERMISSION_DENIED\n\
403 MUTED 4008 PERMISSION_DENIED\n\
403 BLOCKED 5006 PERMISSION_DENIED\n\
404 NOT_FOUND 1004 NOT_FOUND\n\
404 USER_NOT_FOUND 2000 NOT_FOUND\n\
404 MESSAGE_NOT_FOUND 3000 NOT_FOUND\n\
404 CONVERSATION_NOT_FOUND 4000 NOT_FOUND\n\
404 FRIEND_REQUEST_NOT_FOUND 5000 NOT_FOUND\n\
404 NOT_FRIENDS 5003 NOT_FOUND\n\
404 FILE_NOT_FOUND 6000 NOT_FOUND\n\
400 USER_ALREADY_EXISTS 2001 ALREADY_EXISTS\n\
400 INVALID_USERNAME 2006 INVALID_ARGUMENT\n\
400 WEAK_PASSWORD 2007 INVALID_ARGUMENT\n\
423 USER_DISABLED 2005 PERMISSION_DENIED\n\
409 DUPLICATE_MESSAGE 3001 ALREADY_EXISTS\n\
400 INVALID_MESSAGE 3002 INVALID_ARGUMENT\n\
413 MESSAGE_TOO_LARGE 3003 INVALID_ARGUMENT\n\
400 MESSAGE_EMPTY 3004 INVALID_ARGUMENT\n\
400 UNSUPPORTED_MESSAGE_TYPE 3005 INVALID_ARGUMENT\n\
409 MESSAGE_RECALLED 3006 FAILED_PRECONDITION\n\
400 RECALL_TIME_EXCEEDED 3007 FAILED_PRECONDITION\n\
400 CONVERSATION_FULL 4002 RESOURCE_EXHAUSTED\n\
410 CONVERSATION_DISSOLVED 4004 FAILED_PRECONDITION\n\
409 USER_ALREADY_IN_CONVERSATION 4005 ALREADY_EXISTS\n\
400 INVALID_CONVERSATION_NAME 4006 INVALID_ARGUMENT\n\
400 CANNOT_LEAVE_CONVERSATION 4007 FAILED_PRECONDITION\n\
409 VERSION_CONFLICT 1008 ABORTED\n\
409 FRIEND_REQUEST_ALREADY_EXISTS 5001 ALREADY_EXISTS\n\
409 ALREADY_FRIENDS 5002 ALREADY_EXISTS\n\
400 CANNOT_ADD_SELF_AS_FRIEND 5004 INVALID_ARGUMENT\n\
409 FRIEND_REQUEST_ALREADY_HANDLED 5005 FAILED_PRECONDITION\n\
400 UNSUPPORTED_FILE_FORMAT 6001 INVALID_ARGUMENT\n\
413 FILE_TOO_LARGE 6002 INVALID_ARGUMENT\n\
503 FILE_UPLOAD_FAILED 6003 UNAVAILABLE\n\
503 FILE_DOWNLOAD_FAILED 6004 UNAVAILABLE\n\
429 RATE_LIMITED 1005 RESOURCE_EXHAUSTED\n\
500 INTERNAL_ERROR 1000 INTERNAL\n\
503 SERVICE_UNAVAILABLE 1006 UNAVAILABLE\n\
504 TIMEOUT 1007 DEADLINE_EXCEEDED\n\
409 CLIENT_MSG_ID_REUSED 3008 FAILED_PRECONDITION\n\
503 STALE_WRITER 1009 FAILED_PRECONDITION";

    #[test]
    fn the_table_is_the_specs() {
        let ours: HashSet<String> = ErrorCode::all()
            .map(|c| {
                let number = if c.owns_number() { c.number().to_string() } else { format!("({})", c.number()) };
                format!("{} {} {} {}", c.http_status(), c, number, grpc_name(c.grpc_code()))
            })
            .collect();
        let spec: HashSet<String> = SPEC.lines().map(str::to_owned).collect();
        assert_eq!(ours, spec);
        assert_eq!(ErrorCode::all().count(), SPEC.lines().count(), "a code stands twice");
    }

    #[test]
    fn every_number_of_the_contract_has_one_owner() {
        let mut known = 0;
        for number in 1..10_000 {
            let in_contract = wire::ErrorCode::try_from(number).is_ok();
            let owners = ErrorCode::all().filter(|c| c.number() == number && c.owns_number()).count();
            assert_eq!(owners, usize::from(in_contract), "number {number}");
            assert_eq!(ErrorCode::from_number(number).is_some(), in_contract, "number {number}");
            known += owners;
        }
        assert_eq!(known, ErrorCode::all().filter(|c| c.owns_number()).count());
        assert_eq!(ErrorCode::from_number(0), None);
    }

    #[test]
    fn lookups_return_the_code_itself() {
        for code in ErrorCode::all() {
            assert_eq!(code.row().code, code, "rows must be in the order of the enum");
            assert_eq!(code.as_str().parse(), Ok(code));
            assert!(!code.default_message().is_empty());
        }
        assert_eq!("rate_limited".parse::<ErrorCode>(), Err(UnknownErrorCode));
    }

    fn grpc_name(code: Code) -> String {
        let mut name = String::new();
        for c in format!("{code:?}").chars() {
            if c.is_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(c.to_ascii_uppercase());
        }
        name
    }
}
