//! What containers would use if nothing held them back: seeded behaviours over a day.
//!
//! What it may not know: requests, limits, nodes, the API.
//! Invariant: demand depends on the seed, the container's name and time only.

pub(crate) mod demo;
pub(crate) mod scenario;

use std::f64::consts::TAU;

use crate::rng::Rng;

/// CPU over time, in cores for one replica.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cpu {
    /// The same all day.
    Steady(f64),
    /// A sine over the day from `low` at night to `high` at `peak_hour` (UTC).
    Daily {
        /// Cores at the quietest hour.
        low: f64,
        /// Cores at the busiest hour.
        high: f64,
        /// Hour of the day with the most load, 0 to 24.
        peak_hour: f64,
    },
    /// Idle with bursts of random length at random times.
    Bursty {
        /// Cores between bursts.
        idle: f64,
        /// Cores during a burst.
        burst: f64,
        /// Mean seconds between bursts.
        every: f64,
        /// Mean seconds of a burst.
        length: f64,
    },
}

/// Memory over time, in bytes for one replica.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Memory {
    /// The same all day, after a short warm-up.
    Steady(f64),
    /// From `low` to `high` with the load of the day, `peak_hour` as in [`Cpu::Daily`].
    Daily {
        /// Bytes at the quietest hour.
        low: f64,
        /// Bytes at the busiest hour.
        high: f64,
        /// Hour of the day with the most load, 0 to 24.
        peak_hour: f64,
    },
    /// Grows from `base` by `per_hour` until the container restarts.
    Leaking {
        /// Bytes after a start.
        base: f64,
        /// Bytes more with each hour.
        per_hour: f64,
    },
    /// `base`, and `burst` more while the CPU bursts (for the same seconds).
    WithBursts {
        /// Bytes between bursts.
        base: f64,
        /// Bytes more during a burst.
        burst: f64,
    },
}

/// What a container does with CPU and memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Behaviour {
    /// CPU over time.
    pub cpu: Cpu,
    /// Memory over time.
    pub memory: Memory,
    /// Relative standard deviation of the noise on CPU; memory has a tenth of it. With 0 all replicas use the same, from
    /// their start.
    pub noise: f64,
}

/// Bytes in a mebibyte.
pub const MIB: f64 = 1024.0 * 1024.0;

impl Behaviour {
    /// Hardly anything: what a container without a behaviour does.
    pub fn idle() -> Self {
        Self::steady(0.001, 12.0)
    }

    /// The same all day: `cores`, and `mib` of memory.
    pub fn steady(cores: f64, mib: f64) -> Self {
        Self { cpu: Cpu::Steady(cores), memory: Memory::Steady(mib * MIB), noise: 0.08 }
    }

    /// Busy by day: from `low` to `high` cores, memory from `mib` to 1.3 × `mib`.
    pub fn daily(low: f64, high: f64, mib: f64) -> Self {
        let peak_hour = 14.0;
        Self {
            cpu: Cpu::Daily { low, high, peak_hour },
            memory: Memory::Daily { low: mib * MIB, high: 1.3 * mib * MIB, peak_hour },
            noise: 0.12,
        }
    }

    /// Idle with bursts: every 20 minutes or so, for 2 minutes or so.
    pub fn bursty(idle: f64, burst: f64, mib: f64) -> Self {
        Self {
            cpu: Cpu::Bursty { idle, burst, every: 1200.0, length: 120.0 },
            memory: Memory::WithBursts { base: mib * MIB, burst: 0.4 * mib * MIB },
            noise: 0.1,
        }
    }

    /// Steady CPU, and memory that grows by `mib_per_hour` until the container restarts.
    pub fn leaking(cores: f64, mib: f64, mib_per_hour: f64) -> Self {
        Self {
            cpu: Cpu::Steady(cores),
            memory: Memory::Leaking { base: mib * MIB, per_hour: mib_per_hour * MIB },
            noise: 0.08,
        }
    }
}

/// One container's demand at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Demand {
    /// Cores.
    pub(crate) cpu: f64,
    /// Bytes.
    pub(crate) memory: f64,
}

/// The load of one running container.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    behaviour: Behaviour,
    rng: Rng,
    /// This replica's share: some get a little more traffic than others.
    share: f64,
    /// Slow noise, an AR(1) process.
    wander: f64,
    burst_until: f64,
    next_burst: f64,
}

/// Weight of the past in the slow noise, for each step.
const WANDER_MEMORY: f64 = 0.9;

impl Load {
    /// The load of the container called `name` (namespace, pod and container together).
    pub(crate) fn new(behaviour: Behaviour, seed: u64, name: &str) -> Self {
        let mut rng = Rng::named(seed, name);
        let spread = if behaviour.noise > 0.0 { 0.15 } else { 0.0 };
        let share = rng.range(1.0 - spread, 1.0 + spread);
        let next_burst = match behaviour.cpu {
            Cpu::Bursty { every, .. } => rng.range(0.0, every),
            _ => f64::INFINITY,
        };
        Self { behaviour, rng, share, wander: 0.0, burst_until: 0.0, next_burst }
    }

    pub(crate) fn behaviour(&self) -> Behaviour {
        self.behaviour
    }

    /// Demand at `seconds` since midnight UTC of the first day, `uptime` seconds after the start.
    pub(crate) fn demand(&mut self, seconds: f64, uptime: f64) -> Demand {
        self.wander = WANDER_MEMORY * self.wander + (1.0 - WANDER_MEMORY) * self.rng.normal();
        // The stationary deviation of the AR(1) process, so that `noise` means what it says.
        let scale = ((1.0 - WANDER_MEMORY) / (1.0 + WANDER_MEMORY)).sqrt();
        let noise = self.behaviour.noise * (self.wander / scale);
        let bursting = self.bursting(seconds);
        let cpu = self.cpu(seconds, bursting) * self.share * (1.0 + noise).max(0.1);
        let memory = self.memory(seconds, uptime, bursting) * (1.0 + 0.1 * noise);
        // Most programs reach their working set within a minute; without noise a load is what it says, always.
        let warm = if self.behaviour.noise > 0.0 { 1.0 - 0.5 * (-uptime / 20.0).exp() } else { 1.0 };
        Demand { cpu: cpu.max(0.0), memory: (memory * warm).max(MIB) }
    }

    fn bursting(&mut self, seconds: f64) -> bool {
        if let Cpu::Bursty { every, length, .. } = self.behaviour.cpu
            && seconds >= self.next_burst
        {
            self.burst_until = seconds + length * self.rng.range(0.4, 1.6);
            self.next_burst = self.burst_until + every * self.rng.range(0.3, 1.7);
        }
        seconds < self.burst_until
    }

    fn cpu(&self, seconds: f64, bursting: bool) -> f64 {
        match self.behaviour.cpu {
            Cpu::Steady(cores) => cores,
            Cpu::Daily { low, high, peak_hour } => low + (high - low) * day(seconds, peak_hour),
            Cpu::Bursty { burst, .. } if bursting => burst,
            Cpu::Bursty { idle, .. } => idle,
        }
    }

    fn memory(&self, seconds: f64, uptime: f64, bursting: bool) -> f64 {
        match self.behaviour.memory {
            Memory::Steady(bytes) => bytes,
            Memory::Daily { low, high, peak_hour } => low + (high - low) * day(seconds, peak_hour),
            Memory::Leaking { base, per_hour } => base + per_hour * uptime / 3600.0,
            Memory::WithBursts { base, burst } => base + if bursting { burst } else { 0.0 },
        }
    }
}

/// From 0 at the quietest hour to 1 at the peak.
fn day(seconds: f64, peak_hour: f64) -> f64 {
    f64::midpoint(1.0, (TAU * (seconds / 3600.0 - peak_hour) / 24.0).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_cpu(behaviour: Behaviour, from_hour: f64) -> f64 {
        let mut load = Load::new(behaviour, 3, "shop/web-1/app");
        let steps = 720;
        let total: f64 = (0..steps).map(|n| load.demand(from_hour * 3600.0 + f64::from(n) * 5.0, 1e6).cpu).sum();
        total / f64::from(steps)
    }

    #[test]
    fn daily_load_peaks_by_day_and_sleeps_by_night() {
        let daily = Behaviour::daily(0.1, 1.0, 100.0);
        assert!(mean_cpu(daily, 13.5) > 5.0 * mean_cpu(daily, 1.5));
    }

    #[test]
    fn bursty_load_is_idle_most_of_the_time() {
        let mut load = Load::new(Behaviour::bursty(0.01, 1.0, 64.0), 3, "x");
        let busy = (0..17_280).filter(|n| load.demand(f64::from(*n) * 5.0, 1e6).cpu > 0.3).count();
        assert!((500..4000).contains(&busy), "{busy} of 17280 steps");
    }

    #[test]
    fn leaking_memory_grows_until_a_restart() {
        let mut load = Load::new(Behaviour::leaking(0.1, 100.0, 50.0), 3, "x");
        let late = load.demand(0.0, 4.0 * 3600.0).memory;
        let fresh = load.demand(0.0, 60.0).memory;
        assert!(late > 2.5 * fresh);
    }
}
