//! Seeded scripts: what a few sockets do in random order, beside a model of what must fire.

use super::*;
use crate::random::Random;

/// How many socket pairs a script plays with.
const PAIRS: usize = 8;

/// How many things happen in one script.
const STEPS: usize = 400;

/// How many scripts are played.
const SEEDS: u64 = 24;

/// One descriptor under a number that it keeps for the whole script, and what the model knows of it.
#[expect(clippy::struct_excessive_bools, reason = "they are independent facts of a model, not states of a machine")]
struct Place {
    near: OwnedFd,
    far: Option<UnixStream>,
    /// Old files that live on under other numbers: epoll hears nothing of their closing.
    duplicates: Vec<(OwnedFd, Option<UnixStream>)>,
    owned: bool,
    watched: [bool; 2],
    has_data: bool,
    is_shut: bool,
    is_full: bool,
}

impl Place {
    fn new(owned: bool) -> Place {
        let (near, far) = pair();
        Place {
            near: renumber(near),
            far: Some(far),
            duplicates: Vec::new(),
            owned,
            watched: [false; 2],
            has_data: false,
            is_shut: false,
            is_full: false,
        }
    }

    fn is_ready(&self, side: Side) -> bool {
        match side {
            Side::Recv => self.has_data || self.is_shut || self.far.is_none(),
            Side::Send => !self.is_full || self.far.is_none(),
        }
    }

    /// What must fire now. The model forgets what fired, as the poller does.
    fn expect_fired(&mut self) -> Vec<Fired> {
        let mut sides = vec![Side::Recv, Side::Send];
        sides.retain(|side| self.watched[*side as usize] && self.is_ready(*side));
        let fd = self.near.as_raw_fd();
        sides.into_iter().map(|side| self.fire(fd, side)).collect()
    }

    fn fire(&mut self, fd: RawFd, side: Side) -> Fired {
        self.watched[side as usize] = false;
        ready(fd, side)
    }
}

/// What can happen to a place. Each does it, notes it down in the model, and says what it was.
impl Place {
    fn watch(&mut self, rig: &mut Rig, side: Side) -> &'static str {
        rig.poller.watch(self.near.as_raw_fd(), side, self.owned);
        self.watched[side as usize] = true;
        "watch"
    }

    fn unwatch(&mut self, rig: &mut Rig, side: Side) -> &'static str {
        rig.poller.unwatch(self.near.as_raw_fd(), side);
        self.watched[side as usize] = false;
        "unwatch"
    }

    fn write(&mut self) -> &'static str {
        if let Some(far) = self.far.as_mut().filter(|_| !self.is_shut) {
            far.write_all(b"x").expect("room");
            self.has_data = true;
        }
        "write"
    }

    fn drain(&mut self) -> &'static str {
        drain(&self.near);
        self.has_data = false;
        "drain"
    }

    fn fill(&mut self) -> &'static str {
        if self.far.is_some() {
            fill(&self.near);
            self.is_full = true;
        }
        "fill"
    }

    fn make_room(&mut self) -> &'static str {
        if let Some(far) = &self.far {
            drain(far);
            self.is_full = false;
        }
        "make room"
    }

    fn hang_up(&mut self) -> &'static str {
        self.far = None;
        "hang up"
    }

    fn shut(&mut self) -> &'static str {
        if let Some(far) = &self.far {
            far.shutdown(std::net::Shutdown::Write).expect("a connected socket");
            self.is_shut = true;
        }
        "shut"
    }

    /// The owner forgets the descriptor, closes it, and opens another under the same number.
    fn replace(&mut self, rig: &mut Rig, keeps_duplicate: bool) -> &'static str {
        let (new_near, new_far) = pair();
        rig.poller.forget(self.near.as_raw_fd());
        let old = keeps_duplicate.then(|| self.near.try_clone().expect("a duplicate"));
        rustix::io::dup2(&new_near, &mut self.near).expect("dup2 onto an open descriptor");
        let old_far = self.far.replace(new_far);
        self.duplicates.extend(old.map(|old| (old, old_far)));
        (self.watched, self.has_data, self.is_shut, self.is_full) = ([false; 2], false, false, false);
        "replace"
    }

    /// Receivable, hung up: whatever happens to the old file is not the new one's business.
    fn disturb_duplicates(&mut self, random: &mut Random) -> &'static str {
        for (_, far) in &mut self.duplicates {
            if random.below(2) == 0 {
                *far = None;
            } else if let Some(far) = far {
                let _ = far.write(b"x");
            }
        }
        "disturb duplicates"
    }
}

/// Does one random thing to one place.
fn step(rig: &mut Rig, random: &mut Random, places: &mut [Place]) -> String {
    let index = random.below(PAIRS);
    let place = &mut places[index];
    let side = [Side::Recv, Side::Send][random.below(2)];
    let what = match random.below(20) {
        0..=6 => place.watch(rig, side),
        7..=8 => place.unwatch(rig, side),
        9..=11 => place.write(),
        12..=13 => place.drain(),
        14 => place.fill(),
        15 => place.make_room(),
        16 => place.hang_up(),
        17 => place.shut(),
        18 => place.replace(rig, random.below(2) == 0),
        _ => place.disturb_duplicates(random),
    };
    format!("{what} {index} {side:?}")
}

/// Plays one script, and holds what fires against the model after each step.
fn play(mut rig: Rig, seed: u64) {
    let mut random = Random::new(seed);
    let mut places: Vec<Place> = (0..PAIRS).map(|index| Place::new(index % 4 != 0)).collect();
    for number in 0..STEPS {
        let what = step(&mut rig, &mut random, &mut places);
        let mut expected: Vec<Fired> = places.iter_mut().flat_map(Place::expect_fired).collect();
        expected.sort_by_key(|one| order(*one));
        assert_eq!(rig.take(), expected, "seed {seed}, step {number}: {what}");
        match random.below(32) {
            0 => rig.idle(LONG_IDLE_WAITS / 4),
            1..=8 => rig.idle(random.below(12)),
            _ => {}
        }
    }
    rig.assert_asleep();
}

pub(super) fn a_seeded_script_fires_what_a_model_says(rig: &dyn Fn() -> Rig) {
    for seed in 1..=SEEDS {
        play(rig(), seed);
    }
}

/// Up to eight are few to the poller that parks, so the crowd and those of the script are now few and now many.
#[cfg(target_os = "linux")]
#[test]
fn a_script_fires_what_a_model_says_while_now_few_and_now_many_are_watched() {
    for seed in 1_001..1_001 + SEEDS / 2 {
        let parked = Box::new(crate::poller::Parked::new());
        play(Rig::with_crowd(parked, seed as usize % 9), seed);
    }
}
