use super::node::{Node, Object};
use portcullis_policy::{certificate::TrustBundle, problem::Problem};
pub(super) fn read_ca_roots(_: &Object<'_>, _: &Node<'_>, _: &mut Vec<Problem>) -> Option<TrustBundle> {
    None
}
pub(super) fn read_peer(_: &Object<'_>, _: &Node<'_>, _: &mut Vec<Problem>) -> Option<TrustBundle> {
    None
}
