//! Whether the tokens that a rule asks for are there (consul-policy §4).

use super::{Challenge, Outcome, Walk};
use crate::{
    explain::{Observer, Step},
    jwt::Checked,
    model::{Action, Mode, Requirement},
    snapshot::{ReadAt, SnapshotError},
};

impl<R: ReadAt, O: Observer> Walk<'_, R, O> {
    /// An allow, if the tokens are there that it needs.
    pub(super) fn require(
        &mut self,
        requirement: Option<&Requirement>,
        allowed: Outcome,
    ) -> Result<Outcome, SnapshotError> {
        let Some(requirement) = requirement else { return Ok(allowed) };
        if requirement.mode == Mode::Off {
            return Ok(allowed);
        }
        let unmet = self.unmet(requirement, &allowed.rule)?;
        self.observer.step(Step::Requirement { requirement, unmet: unmet.as_ref().map(|it| &*it.reason) });
        match unmet {
            None => Ok(allowed),
            Some(denied) if requirement.mode == Mode::Shadow => {
                self.shadow.note(Action::Deny, &denied.rule);
                Ok(allowed)
            }
            Some(denied) => Ok(denied),
        }
    }

    /// Why none of the alternatives holds; `None` when one does. Of several failures the nearest miss is told.
    fn unmet(&mut self, requirement: &Requirement, rule: &str) -> Result<Option<Outcome>, SnapshotError> {
        let (mut invalid, mut insufficient) = (None, None);
        for alternative in &requirement.providers {
            let provider = &alternative.provider;
            match self.tokens.check(provider)? {
                Checked::Missing => {}
                Checked::Invalid(why) => {
                    invalid.get_or_insert_with(|| format!("the token for {provider} is not valid: {why}"));
                }
                Checked::Valid(verified) => {
                    let claims = &verified.claims;
                    let Some(failed) = alternative.claims.iter().find(|it| !claims.holds(&it.path, &it.value)) else {
                        return Ok(None);
                    };
                    insufficient.get_or_insert_with(|| {
                        format!("the token for {provider} lacks the claim {}", failed.path.join("."))
                    });
                }
            }
        }
        let rule = rule.to_owned();
        Ok(Some(match (insufficient, invalid) {
            (Some(reason), _) => Outcome::claims(rule, reason),
            (None, Some(reason)) => Outcome::token(rule, reason, Challenge::ValidToken),
            (None, None) => {
                let names: Vec<_> = requirement.provider_names().collect();
                Outcome::token(rule, format!("a token is missing: {}", names.join(" or ")), Challenge::Token)
            }
        }))
    }
}
