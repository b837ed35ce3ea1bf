//! Bytes to values and back, for everything after the upgrade. Nothing here knows a connection.
//!
//! | file | its one job |
//! | --- | --- |
//! | `frame` | frame headers (RFC 6455), masks, opcodes |
//! | `close_reason` | why a WebSocket is closed, and the close code of each reason |
//! | `message` | system messages and errors |
//! | `json` | the check that a text is UTF-8 and JSON, and its `type` |

pub(crate) mod close_reason;
pub(crate) mod frame;
pub(crate) mod json;
pub(crate) mod message;
