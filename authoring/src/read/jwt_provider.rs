use super::node::{Node, Object};
use portcullis_policy::{jwt::JwtProvider, problem::Problem};
pub(super) fn read(_: &Object<'_>, _: &Node<'_>, _: &mut Vec<Problem>) -> Option<JwtProvider> {
    None
}
