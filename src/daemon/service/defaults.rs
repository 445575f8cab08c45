//! `set/<key>`: what requests leave open, whether jobs start, and what is painted without being asked.

use serde_json::{Map, Value};

use super::{Service, admission::Origin, durably, text};
use crate::daemon::troubles;
use crate::diffusion::request::FieldError;
use crate::jobs::defaults::Defaults;

/// The name in the store under which they are kept.
const DEFAULTS: &str = "defaults";
/// Tried with every new default.
const TRIAL: &str = "a fox";

impl Service {
    /// Reads them from the store.
    pub(super) fn load_defaults(&mut self) {
        match self.ledger.store().setting::<Defaults>(DEFAULTS) {
            Ok(defaults) => self.schedule.defaults = defaults.unwrap_or_default(),
            Err(error) => tracing::warn!(%error, "the defaults of an earlier process cannot be read"),
        }
        self.show_config(None);
    }

    pub(super) fn on_set(&mut self, key: &str, payload: &[u8]) {
        if key == "model" {
            self.find_out(Some(text(payload)));
        }
        let mut defaults = self.schedule.defaults.clone();
        let outcome = defaults.set(key, text(payload)).and_then(|()| self.try_defaults(&defaults));
        if let Err(error) = outcome {
            tracing::warn!(key, %error, "a default was not taken");
            return self.show_config(Some(error.to_string()));
        }
        if defaults != self.schedule.defaults {
            let store = self.ledger.store().clone();
            if let Err(error) = durably(|| store.set(DEFAULTS, &defaults, false)) {
                self.troubles.set(troubles::STORAGE, error.to_string());
            }
            self.schedule.set_defaults(defaults);
        }
        self.show_config(None);
    }

    /// A plain prompt has to work with them.
    fn try_defaults(&self, defaults: &Defaults) -> Result<(), FieldError> {
        let mut fields = Map::from_iter([("prompt".to_owned(), Value::from(TRIAL))]);
        defaults.fill(&mut fields);
        self.check(&fields, &mut Vec::new()).map(|_| ())
    }

    pub(super) fn fill_defaults(&self, fields: &mut Map<String, Value>) {
        let is_own = fields.get("model").is_some_and(|model| !model.is_null());
        self.schedule.defaults.fill(fields);
        let gone = |model: &str| !is_own && !self.setup.offering.has(model);
        // A default that was removed since it was set: the node's own pack stands in for it, as `config` says.
        if fields.get("model").and_then(Value::as_str).is_some_and(gone) {
            fields.remove("model");
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.schedule.defaults.paused
    }

    pub(super) fn show_config(&self, error: Option<String>) {
        let report = self.schedule.defaults.report(&self.setup.offering.now().packs, error);
        self.outlets.config.send_if_modified(|config| {
            let changed = *config != report;
            *config = report;
            changed
        });
    }

    /// Asks for what the schedule says, as a display would.
    pub(super) fn paint_what_is_due(&mut self) {
        if self.stopping || self.is_paused() || !self.ledger.is_loaded() {
            return;
        }
        // An ambient picture waits until nobody else wants one.
        let idle = self.running.is_none() && self.ledger.waiting().is_empty();
        for prompt in self.schedule.due(idle) {
            let fields = Map::from_iter([("prompt".to_owned(), Value::from(prompt))]);
            let _ = self.ask(fields, Origin { client: Some("schedule".to_owned()), ..Origin::default() });
        }
    }
}
