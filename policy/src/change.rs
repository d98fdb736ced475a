//! What has to be done to a request before it is forwarded, so that the backend sees what was decided on.

/// One change of an allowed request. Changes are made in the order in which they are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Replace path and query by this text.
    SetUri(String),
    /// Remove every parameter of this name from the query. Only inside this crate: decisions hold the whole URI.
    RemoveQuery(String),
    /// Remove every value of this header (lower-case name).
    RemoveHeader(String),
    /// Replace every value of this header by one.
    SetHeader {
        /// The header's name.
        name: String,
        /// Its value.
        value: String,
    },
}
