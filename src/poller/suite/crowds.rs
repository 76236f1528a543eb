//! Many descriptors at once, and files of every kind: rows 17 and 35 of the faults.

use super::*;
use crate::panics::lock;
use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Mutex;

/// More than one `epoll_wait` returns, whatever is asked of it, if the descriptor limit allows so many.
const TWINS_MAX: usize = 5_000;

/// Two crowds do not fit into the descriptor limit of some systems.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Many numbers for the receiving end of one pipe: all of them are ready at once when a byte is in it.
fn twins() -> (Vec<PipeReader>, PipeWriter) {
    let count = TWINS_MAX.min(descriptors_max() / 4);
    let (reader, writer) = io::pipe().expect("a pipe");
    ((0..count).map(|_| reader.try_clone().expect("a free number")).collect(), writer)
}

pub(super) fn more_ready_descriptors_than_one_call_returns_all_fire_within_two_waits(rig: &dyn Fn() -> Rig) {
    let _alone = lock(&ONE_AT_A_TIME);
    for life in [LIVES[0], LIVES[5]] {
        let (mut rig, (mut crowd, mut writer)) = (rig(), twins());
        for round in 0..3 {
            for reader in &crowd {
                rig.watch(reader, Side::Recv, life);
            }
            rig.idle(life.idle_waits);
            // Every third is let go while it is idle.
            for reader in crowd.iter().step_by(3) {
                rig.unwatch(reader, Side::Recv);
            }
            writer.write_all(b"x").expect("room");
            let expected: BTreeSet<RawFd> =
                crowd.iter().enumerate().filter(|(index, _)| index % 3 != 0).map(|(_, fd)| fd.as_raw_fd()).collect();
            let fired = rig.take();
            assert_eq!(fired.len(), expected.len(), "{life:?}, round {round}");
            assert_eq!(fired.iter().map(|one| one.fd).collect::<BTreeSet<_>>(), expected, "{life:?}, round {round}");
            rig.assert_asleep();
            crowd[0].read_exact(&mut [0]).expect("the byte is there");
        }
    }
}

pub(super) fn a_few_that_stay_busy_do_not_hide_a_crowd_that_was_idle(rig: &dyn Fn() -> Rig) {
    let _alone = lock(&ONE_AT_A_TIME);
    let life = Life { owned: true, idle_waits: LONG_IDLE_WAITS };
    let (mut rig, (crowd, mut writer)) = (rig(), twins());
    let busy: Vec<_> = (0..8).map(|_| pair()).collect();
    for reader in &crowd {
        rig.watch(reader, Side::Recv, life);
    }
    rig.idle(life.idle_waits);
    writer.write_all(b"x").expect("room");
    let mut served = BTreeSet::new();
    for wait in 0..3 {
        for (near, _) in &busy {
            rig.watch(near, Side::Send, life);
        }
        let fired = rig.look();
        for (near, _) in &busy {
            assert!(fired.contains(&send(near.as_raw_fd())), "the busy ones are served in wait {wait}, too");
        }
        // The others stay watched, and ready: nobody may be served twice before everybody was served once.
        served.extend(fired.iter().map(|one| one.fd));
        if wait == 1 {
            assert_eq!(served.len(), crowd.len() + busy.len(), "all are served within two waits");
        }
    }
}

pub(super) fn a_crowd_that_was_busy_lets_the_poller_sleep_when_it_is_quiet_again(rig: &dyn Fn() -> Rig) {
    for life in LIVES {
        let mut rig = rig();
        let pairs: Vec<_> = (0..20).map(|_| pair()).collect();
        for (near, _) in &pairs {
            rig.watch(near, Side::Recv, life);
        }
        rig.idle(life.idle_waits);
        for _ in 0..3 {
            for (_, far) in &pairs {
                (&*far).write_all(b"x").expect("room");
            }
            // They stay watched, as those do who wait again.
            for _ in 0..3 {
                assert_eq!(rig.look().len(), pairs.len(), "{life:?}");
            }
            for (near, _) in &pairs {
                drain(near);
            }
            rig.assert_asleep();
        }
    }
}

pub(super) fn the_last_of_a_crowd_can_be_let_go_and_come_back(rig: &dyn Fn() -> Rig) {
    let _alone = lock(&ONE_AT_A_TIME);
    for life in LIVES {
        let mut rig = rig();
        let pairs: Vec<_> = (0..100).map(|_| pair()).collect();
        for (near, _) in &pairs {
            rig.watch(near, Side::Recv, life);
        }
        rig.idle(life.idle_waits);
        for (near, _) in &pairs {
            rig.unwatch(near, Side::Recv);
        }
        for (_, far) in &pairs {
            (&*far).write_all(b"x").expect("room");
        }
        rig.assert_asleep();
        for (near, _) in pairs.iter().rev() {
            rig.watch(near, Side::Recv, life);
            assert_eq!(rig.take(), [recv(near.as_raw_fd())], "{life:?}");
        }
    }
}

/// `poll(2)` says that a regular file is always ready, so it is never idle, and never offered to epoll, which would refuse it.
pub(super) fn a_file_that_is_always_ready_fires_each_time(rig: &dyn Fn() -> Rig) {
    let program = std::env::current_exe().expect("this program has a path");
    let files = [File::open(program).expect("this program can be read"), null()];
    for (life, file) in LIVES.into_iter().flat_map(|life| files.each_ref().map(|file| (life, file))) {
        let mut rig = rig();
        let fd = file.as_raw_fd();
        for round in 0..LONG_IDLE_WAITS {
            rig.watch(file, Side::Recv, life);
            assert_eq!(rig.take(), [recv(fd)], "{life:?}, round {round}");
        }
        rig.assert_asleep();
        rig.idle(life.idle_waits);
        rig.watch(file, Side::Recv, life);
        rig.watch(file, Side::Send, life);
        assert_eq!(rig.take(), [recv(fd), send(fd)], "{life:?}");
        rig.watch(file, Side::Recv, life);
        rig.unwatch(file, Side::Recv);
        rig.assert_asleep();
        rig.poller.forget(fd);
    }
}

/// Row 17: what epoll refuses, for whatever reason, is served by `poll(2)` all the same. epoll instances that watch each other
/// in a chain are refused by another one when the chain is too long, and are idle, which a regular file never is.
pub(super) fn a_descriptor_that_epoll_refuses_is_served_after_it_was_idle(rig: &dyn Fn() -> Rig) {
    #[cfg(target_os = "linux")]
    for life in LIVES {
        use rustix::event::epoll::{CreateFlags, EventData, EventFlags, add, create};
        let (near, mut far) = pair();
        let mut chain = vec![OwnedFd::from(near.try_clone().expect("a duplicate"))];
        loop {
            let top = create(CreateFlags::CLOEXEC).expect("an epoll instance");
            let below = chain.last().expect("it is not empty");
            match add(&top, below, EventData::new_u64(0), EventFlags::IN) {
                Ok(()) => chain.push(top),
                Err(_) => break,
            }
            assert!(chain.len() < 20, "no chain is long enough to be refused");
        }
        let mut rig = rig();
        let top = chain.last().expect("it is not empty");
        rig.watch(top, Side::Recv, life);
        for round in 0..3 {
            rig.idle(life.idle_waits);
            far.write_all(b"x").expect("room");
            assert_eq!(rig.take(), [recv(top.as_raw_fd())], "{life:?}, round {round}");
            drain(&near);
            rig.watch(top, Side::Recv, life);
        }
        rig.assert_asleep();
    }
    #[cfg(not(target_os = "linux"))]
    let _ = rig;
}

/// A number that named an idle socket names a regular file next, and the other way round.
pub(super) fn a_number_may_change_between_a_socket_and_a_file(rig: &dyn Fn() -> Rig) {
    for life in LIVES {
        let (mut rig, (near, mut far)) = (rig(), pair());
        let mut place = renumber(null());
        let fd = place.as_raw_fd();
        for round in 0..4 {
            rig.watch(&place, Side::Recv, life);
            assert_eq!(rig.take(), [recv(fd)], "{life:?}, round {round}: a file");
            rig.idle(life.idle_waits);
            rig.poller.forget(fd);
            rustix::io::dup2(&near, &mut place).expect("dup2 onto an open descriptor");
            rig.leave_idle(&place, Side::Recv, life);
            far.write_all(b"x").expect("room");
            assert_eq!(rig.take(), [recv(fd)], "{life:?}, round {round}: a socket");
            drain(&near);
            rig.leave_idle(&place, Side::Recv, life);
            rig.poller.forget(fd);
            rustix::io::dup2(null(), &mut place).expect("dup2 onto an open descriptor");
        }
    }
}

pub(super) fn a_listener_fires_when_a_connection_is_in_its_queue(rig: &dyn Fn() -> Rig) {
    for life in LIVES {
        let mut rig = rig();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        for round in 0..3 {
            rig.leave_idle(&listener, Side::Recv, life);
            let _client = std::net::TcpStream::connect(address).expect("a listener");
            assert_eq!(rig.sleep(), [recv(listener.as_raw_fd())], "{life:?}, round {round}");
            let _connection = listener.accept().expect("a connection");
            rig.assert_asleep();
        }
    }
}

fn null() -> File {
    File::options().read(true).write(true).open("/dev/null").expect("every Unix has it")
}
