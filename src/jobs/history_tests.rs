//! Tests of `history`: what goes first, and what never goes.

use super::*;
use crate::jobs::report::ImageMeta;
use crate::jobs::status::Phase;

fn ended(name: &str, bytes: usize) -> Ended {
    let id = JobId::parse(name).expect("valid");
    let picture = ImageMeta { bytes, ..ImageMeta::example(&id) };
    let status = JobStatus::new(&id, "n", Phase::Succeeded);
    Ended { pictures: vec![picture], ..Ended::new(status) }
}

fn full(count: usize, bytes: u64) -> History {
    let mut history = History::new(HistoryBounds { count, bytes });
    for number in 0..4 {
        history.push(number, &ended(&format!("j{number}"), 100), false);
    }
    history
}

fn knows(history: &History, name: &str) -> bool {
    history.find(&JobId::parse(name).expect("valid")).is_some()
}

#[test]
fn pictures_of_the_oldest_go_first_and_their_answers_stay() {
    let mut history = full(10, 450);
    assert_eq!(history.make_room(1, 50), []);
    assert_eq!(history.make_room(1, 200), [Evicted::Pictures(0), Evicted::Pictures(1)]);
    assert!(knows(&history, "j0"));
    assert_eq!(history.make_room(1, 200), [], "they are gone already");
}

#[test]
fn the_oldest_go_whole_when_there_are_too_many() {
    let mut history = full(4, 1000);
    assert_eq!(history.make_room(2, 0), [Evicted::Whole(0), Evicted::Whole(1)]);
    assert!(!knows(&history, "j0") && !knows(&history, "j1") && knows(&history, "j2"));
    let mut history = full(4, 350);
    assert_eq!(history.make_room(1, 0), [Evicted::Whole(0)], "not its pictures and then itself");
}

#[test]
fn what_the_broker_has_not_heard_of_never_goes() {
    let mut history = History::new(HistoryBounds { count: 1, bytes: 100 });
    for number in 0..3 {
        history.push(number, &ended(&format!("j{number}"), 100), true);
    }
    assert_eq!(history.make_room(1, 100), []);
    assert_eq!(history.waiting_bytes(), 300);
    let status = history.find(&JobId::parse("j1").expect("valid")).expect("known").1.clone();
    history.delivered(1, &status, 100);
    assert_eq!(history.waiting_bytes(), 200);
    assert_eq!(history.make_room(1, 100), [Evicted::Whole(1)]);
    assert!(knows(&history, "j0") && !knows(&history, "j1"));
}

#[test]
fn an_id_that_ran_again_after_it_was_forgotten_is_known_by_its_last_end() {
    let mut history = full(10, 1000);
    history.push(9, &ended("j0", 5), false);
    assert_eq!(history.find(&JobId::parse("j0").expect("valid")).map(|found| found.0), Some(9));
    let mut history = History { bounds: HistoryBounds { count: 4, bytes: 1000 }, ..history };
    history.make_room(1, 0);
    assert!(knows(&history, "j0"), "only the older of the two went");
}
