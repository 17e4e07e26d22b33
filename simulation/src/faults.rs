//! What goes wrong: each seed draws which kinds of faults it has and how often, then when and to whom.

use crate::effects::{Event, MINUTE, MS, SECOND, Timer, Us, Who};
use crate::world::World;
use std::collections::BTreeMap;

const DAY: Us = 24 * 60 * MINUTE;

/// A node's wire to the gateway.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    pub(crate) up_cut: bool,
    pub(crate) down_cut: bool,
    pub(crate) loss: f64,
    pub(crate) doubles: f64,
    pub(crate) delay_max: Us,
    /// How often a message is held up, and for how long at most.
    pub(crate) stalls: f64,
    pub(crate) stall_max: Us,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            up_cut: false,
            down_cut: false,
            loss: 0.0,
            doubles: 0.0,
            delay_max: 30 * MS,
            stalls: 0.0,
            stall_max: 0,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Kill,
    KillGateway,
    Sleep,
    Cut,
    CutOneWay,
    Lossy,
    Stalls,
    ClockJump,
    SlowDisk,
}

impl Kind {
    const ALL: [Kind; 9] = [
        Self::Kill,
        Self::KillGateway,
        Self::Sleep,
        Self::Cut,
        Self::CutOneWay,
        Self::Lossy,
        Self::Stalls,
        Self::ClockJump,
        Self::SlowDisk,
    ];
}

/// Which faults a seed has, and those that go on.
pub(crate) struct Faults {
    kinds: Vec<Kind>,
    mean: Us,
    going_on: BTreeMap<u64, (Kind, Who)>,
    pub(crate) happened: u64,
}

impl Faults {
    pub(crate) fn drawn(rng: &mut fastrand::Rng, minutes: u64) -> Self {
        let kinds = Kind::ALL.into_iter().filter(|_| rng.f64() < 0.6).collect();
        let rare = if minutes > 120 { 10 } else { 1 };
        Self {
            kinds,
            mean: rare * rng.i64(15 * SECOND..=120 * SECOND),
            going_on: BTreeMap::new(),
            happened: 0,
        }
    }

    pub(crate) fn any(&self) -> bool {
        !self.kinds.is_empty()
    }
}

impl World {
    /// A time of chance with this mean.
    pub(crate) fn some_time(&mut self, mean: Us) -> Us {
        let long = self.rng.u8(0..4) == 0;
        if long {
            self.rng.i64(0..=mean * 5 / 2)
        } else {
            self.rng.i64(0..=mean)
        }
    }

    /// One more thing goes wrong.
    pub(crate) fn fault(&mut self) {
        if self.quiet {
            return;
        }
        let wait = self.some_time(self.faults.mean * 4 / 3);
        self.after(wait, Event::Fault);
        let kind = self.faults.kinds[self.rng.usize(0..self.faults.kinds.len())];
        let node = self.rng.usize(1..self.machines.len());
        let anybody = self.rng.usize(0..self.machines.len());
        let lasts = match self.rng.u8(0..10) {
            0..6 => self.rng.i64(SECOND..=30 * SECOND),
            6..9 => self.rng.i64(30 * SECOND..=3 * MINUTE),
            _ => self.rng.i64(3 * MINUTE..=12 * MINUTE),
        };
        let who = match kind {
            Kind::KillGateway => 0,
            Kind::ClockJump | Kind::SlowDisk | Kind::Sleep => anybody,
            _ => node,
        };
        self.faults.happened += 1;
        self.note(|world| {
            let name = &world.machines[who].id;
            format!("FAULT {kind:?} {name} for {} s", lasts / SECOND)
        });
        match kind {
            Kind::Kill | Kind::KillGateway => self.kill(who, lasts),
            Kind::Sleep => self.machines[who].wakes_at = self.now + lasts,
            Kind::ClockJump => self.jump(who),
            _ => {
                let number = self.faults.happened;
                self.faults.going_on.insert(number, (kind, who));
                self.after(lasts, Event::Heal(number));
                self.apply();
            }
        }
    }

    fn kill(&mut self, who: Who, down: Us) {
        if !self.machines[who].up {
            return;
        }
        self.end_runs(who);
        let unsynced = self.machines[who].store.unsynced();
        let kept = self.rng.usize(0..=unsynced);
        let machine = &mut self.machines[who];
        machine.up = false;
        machine.life += 1;
        machine.wakes_at = 0;
        machine.land_at = 0;
        let survived = machine.store.kill(kept);
        self.published(who, &survived);
        self.after(down, Event::Restart(who));
    }

    fn jump(&mut self, who: Who) {
        // Central's own clock tells everybody's waits: by days it would move them by days.
        let far = who != 0 && self.rng.u8(0..4) == 0;
        let most = if far { 2 * DAY } else { 30 * SECOND };
        let by = self.rng.i64(-most..=most);
        self.machines[who].offset += by;
    }

    pub(crate) fn heal(&mut self, fault: u64) {
        if self.faults.going_on.remove(&fault).is_some() {
            self.apply();
        }
    }

    // Wires and disks as the faults that go on make them.
    fn apply(&mut self) {
        for wire in &mut self.wires {
            *wire = Wire::default();
        }
        for machine in &mut self.machines {
            machine.sync_max = 20 * MS;
        }
        for (number, (kind, who)) in &self.faults.going_on {
            let wire = &mut self.wires[*who];
            match kind {
                Kind::Cut => (wire.up_cut, wire.down_cut) = (true, true),
                Kind::CutOneWay if number % 2 == 0 => wire.up_cut = true,
                Kind::CutOneWay => wire.down_cut = true,
                Kind::Lossy => (wire.loss, wire.doubles, wire.delay_max) = (0.2, 0.2, 500 * MS),
                Kind::Stalls => (wire.stalls, wire.stall_max) = (0.2, 25 * SECOND),
                Kind::SlowDisk => self.machines[*who].sync_max = 2 * SECOND,
                _ => {}
            }
        }
    }

    /// The faults and the load end: everything is healed, and everybody awake.
    pub(crate) fn calm(&mut self) {
        self.note(|_| "CALM".to_owned());
        self.quiet = true;
        self.faults.going_on.clear();
        self.apply();
        for who in 0..self.machines.len() {
            self.machines[who].wakes_at = self.now;
            self.restart(who);
            let first = if who == 0 {
                Timer::Tick
            } else {
                Timer::Go(crate::effects::Loop::Push)
            };
            if who != 0 {
                self.wake(who, 0, first);
            }
        }
    }
}
