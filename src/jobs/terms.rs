//! When and how a request wants to be served: priority, deadline, where to answer, for which panels.

use std::time::Duration;

use serde_json::{Map, Value};

use super::message::{take, take_bool, take_number, take_text, wrong_type};
use super::nearest::nearest;
use crate::diffusion::request::FieldError;

/// Priorities go from minus this to this.
pub const PRIORITY_MAX: i64 = 10;

/// Longest deadline, in seconds: a year.
pub const DEADLINE_MAX_S: f64 = 31_536_000.0;

/// Of the steps asked for, an adaptive request keeps one in this many at least.
const STEPS_KEPT: usize = 4;

/// The fields of a request that say nothing about its picture.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Terms {
    /// -10 to 10; higher ones run first.
    pub priority: i64,
    /// Seconds from acceptance on in which the picture is wanted.
    pub deadline_s: Option<f64>,
    /// Take fewer steps rather than miss the deadline.
    pub adaptive: bool,
    /// Topic to answer on; whether that is allowed is not checked here.
    pub reply: Option<String>,
    /// Renditions that are published of its pictures, each once; `None` leaves them to the node.
    pub renditions: Option<Vec<String>>,
}

impl Terms {
    pub(super) fn take(fields: &mut Map<String, Value>) -> Result<Self, FieldError> {
        let priority = match take(fields, "priority") {
            None => 0,
            Some(value) => read_priority(&value)?,
        };
        let deadline_s = take_number(fields, "deadline_s")?;
        if let Some(seconds) = deadline_s.filter(|seconds| !(*seconds > 0.0 && *seconds <= DEADLINE_MAX_S)) {
            let message = format!("must be above 0 and at most {DEADLINE_MAX_S} seconds");
            return Err(FieldError::new("invalid_value", "deadline_s", seconds, message));
        }
        let adaptive = take_bool(fields, "adaptive")?.unwrap_or(false);
        let (reply, renditions) = (take_text(fields, "reply")?, read_renditions(fields)?);
        Ok(Self { priority, deadline_s, adaptive, reply, renditions })
    }

    /// Whether the renditions are among those that the node knows.
    ///
    /// # Errors
    /// `invalid_value` of `renditions`: the first that is not, and what may have been meant.
    pub fn check_renditions(&self, known: &[String]) -> Result<(), FieldError> {
        let mut wanted = self.renditions.iter().flatten();
        let Some(name) = wanted.find(|name| !known.contains(name)) else { return Ok(()) };
        let hint = match nearest(name, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`request` in `info` lists all".to_owned(),
        };
        Err(FieldError::new("invalid_value", "renditions", name, format!("no profile has this name; {hint}")))
    }

    /// The deadline with the broker's own: what is left of a message's expiry counts as well, and the sooner holds.
    pub fn with_expiry(self, expiry: Option<Duration>) -> Self {
        let expiry = expiry.map(|expiry| expiry.as_secs_f64());
        let sooner = match (self.deadline_s, expiry) {
            (Some(deadline), Some(expiry)) => Some(deadline.min(expiry)),
            (deadline, expiry) => deadline.or(expiry),
        };
        Self { deadline_s: sooner, ..self }
    }
}

fn read_priority(value: &Value) -> Result<i64, FieldError> {
    let number =
        value.as_f64().ok_or_else(|| wrong_type("priority", value, "a whole number from -10 to 10"))?;
    let whole = number as i64;
    let fits = number.fract() == 0.0 && (-PRIORITY_MAX..=PRIORITY_MAX).contains(&whole);
    fits.then_some(whole).ok_or_else(|| {
        FieldError::new("invalid_value", "priority", value, "must be a whole number from -10 to 10")
    })
}

/// Names, each once, in their order.
fn read_renditions(fields: &mut Map<String, Value>) -> Result<Option<Vec<String>>, FieldError> {
    let Some(value) = take(fields, "renditions") else { return Ok(None) };
    let wrong = || wrong_type("renditions", &value, "an array of the names of profiles");
    let mut names: Vec<String> = Vec::new();
    for name in value.as_array().ok_or_else(wrong)? {
        let name = name.as_str().ok_or_else(|| wrong_type("renditions", name, "the name of a profile"))?;
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    Ok(Some(names))
}

/// What becomes of a request with `limit` to go, by the estimates of this node.
#[derive(Debug, Clone, PartialEq)]
pub enum Schedule {
    /// It will be ready in time, or nothing is known that says otherwise.
    Fits,
    /// It will with so many steps.
    Fewer {
        /// Fewer than asked for.
        steps: usize,
    },
    /// It will not.
    TooLate {
        /// How long it would take, waiting included.
        estimate: Duration,
    },
}

/// Whether a picture of `steps` can be ready within `limit` after `wait`; `steps_within` says how many steps fit into a time.
pub fn schedule(
    steps: usize,
    limit: Duration,
    wait: Duration,
    own: Duration,
    adaptive: bool,
    steps_within: impl Fn(Duration) -> Option<usize>,
) -> Schedule {
    if wait + own <= limit {
        return Schedule::Fits;
    }
    let fewer = steps_within(limit.saturating_sub(wait)).filter(|_| adaptive);
    match fewer {
        Some(fit) if fit >= steps.div_ceil(STEPS_KEPT) && fit < steps => Schedule::Fewer { steps: fit },
        _ => Schedule::TooLate { estimate: wait + own },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(text: &str) -> Result<Terms, FieldError> {
        Terms::take(&mut serde_json::from_str(text).expect("an object"))
    }

    #[test]
    fn terms_are_read_and_refused_by_name() {
        let read =
            terms(r#"{"priority": -3, "deadline_s": 1.5, "adaptive": true, "reply": "easel/reply/a"}"#);
        let reply = Some("easel/reply/a".to_owned());
        let wanted = Terms { priority: -3, deadline_s: Some(1.5), adaptive: true, reply, renditions: None };
        assert_eq!(read, Ok(wanted));
        assert_eq!(terms("{}"), Ok(Terms::default()));
        for (text, field, code) in [
            (r#"{"priority": 11}"#, "priority", "invalid_value"),
            (r#"{"priority": 0.5}"#, "priority", "invalid_value"),
            (r#"{"priority": "high"}"#, "priority", "wrong_type"),
            (r#"{"deadline_s": 0}"#, "deadline_s", "invalid_value"),
            (r#"{"deadline_s": -1}"#, "deadline_s", "invalid_value"),
            (r#"{"deadline_s": 1e300}"#, "deadline_s", "invalid_value"),
            (r#"{"adaptive": 1}"#, "adaptive", "wrong_type"),
            (r#"{"reply": 7}"#, "reply", "wrong_type"),
            (r#"{"renditions": "jpeg"}"#, "renditions", "wrong_type"),
            (r#"{"renditions": [7]}"#, "renditions", "wrong_type"),
        ] {
            let error = terms(text).expect_err(text);
            assert_eq!((error.field.as_str(), error.code), (field, code));
        }
    }

    #[test]
    fn renditions_are_known_ones_each_once() {
        let known = ["jpeg", "trmnl"].map(str::to_owned);
        let wanted = terms(r#"{"renditions": ["trmnl", "jpeg", "trmnl"]}"#).expect("names");
        assert_eq!(wanted.renditions, Some(vec!["trmnl".to_owned(), "jpeg".to_owned()]));
        assert_eq!(wanted.check_renditions(&known), Ok(()));
        assert_eq!(terms(r#"{"renditions": []}"#).expect("none").renditions, Some(Vec::new()));
        assert_eq!(terms(r#"{"renditions": null}"#).expect("absent").renditions, None);
        let error = terms(r#"{"renditions": ["jpeg", "trmnll"]}"#).expect("names").check_renditions(&known);
        let error = error.expect_err("not known");
        assert_eq!((error.field.as_str(), error.value.as_str()), ("renditions", "trmnll"));
        assert!(error.message.contains("`trmnl`"), "{}", error.message);
    }

    #[test]
    fn the_sooner_of_deadline_and_expiry_holds() {
        let with = |deadline_s, expiry: Option<u64>| {
            let terms = Terms { deadline_s, ..Terms::default() };
            terms.with_expiry(expiry.map(Duration::from_secs)).deadline_s
        };
        assert_eq!(with(None, None), None);
        assert_eq!(with(Some(5.0), None), Some(5.0));
        assert_eq!(with(None, Some(7)), Some(7.0));
        assert_eq!(with(Some(9.0), Some(7)), Some(7.0));
    }

    #[test]
    fn who_cannot_be_ready_takes_fewer_steps_or_goes() {
        let second = Duration::from_secs;
        // A second a step, nothing else.
        let ask = |steps: u64, limit, wait, adaptive| {
            let within = |time: Duration| Some(time.as_secs() as usize);
            schedule(steps as usize, second(limit), second(wait), second(steps), adaptive, within)
        };
        assert_eq!(ask(8, 10, 2, false), Schedule::Fits);
        assert_eq!(ask(8, 10, 3, false), Schedule::TooLate { estimate: second(11) });
        assert_eq!(ask(8, 10, 3, true), Schedule::Fewer { steps: 7 });
        assert_eq!(ask(8, 5, 3, true), Schedule::Fewer { steps: 2 });
        assert_eq!(ask(8, 4, 3, true), Schedule::TooLate { estimate: second(11) }, "an eighth is no picture");
        assert_eq!(ask(8, 4, 30, true), Schedule::TooLate { estimate: second(38) });
    }
}
