//! The machine's own gauges for heartbeats, and which boot of the system this is.
//!
//! Owns a handle of `sysinfo` so that processor use is measured between two calls. Contract: integers only; a call takes
//! about a millisecond and is meant for every 15 s from a thread of its own; a gauge that the system does not give
//! is 0, told per field, because a heartbeat without one gauge is worth more than none. It sends nothing.

use std::path::{Path, PathBuf};

use sysinfo::{Components, CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// The system does not tell what a heartbeat needs.
#[derive(Debug, thiserror::Error)]
pub enum HeartbeatError {
    /// The system's counters cannot be opened.
    #[error("the system's counters cannot be read: {reason}; heartbeats cannot be sent from this machine")]
    NoCounters {
        /// The system's answer.
        reason: String,
    },
    /// Nothing tells this boot from others.
    #[error("this boot of the system cannot be told from others: {reason}")]
    NoBootId {
        /// The system's answer.
        reason: String,
    },
}

impl HeartbeatError {
    /// The stable code of this error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            HeartbeatError::NoCounters { .. } => "heartbeat.no-counters",
            HeartbeatError::NoBootId { .. } => "heartbeat.no-boot-id",
        }
    }
}

/// What a machine says about itself at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauges {
    /// Use of all processors together since the previous sample, 0 to 1000; 0 in the first.
    pub cpu_per_mille: u16,
    /// How many processors there are.
    pub cpu_count: u16,
    /// Memory that is not available to new processes, in bytes.
    pub memory_used_bytes: u64,
    /// Memory of the machine, in bytes.
    pub memory_total_bytes: u64,
    /// Space left for this user on the disk of the store, in bytes.
    pub disk_free_bytes: u64,
    /// Size of that disk, in bytes; 0 if it could not be read, and then the free space means nothing.
    pub disk_total_bytes: u64,
    /// Load average of one minute, in hundredths.
    pub load1_centi: u32,
    /// Time since the system booted, in seconds.
    pub uptime_s: u64,
    /// The hottest sensor in thousandths of a degree Celsius; nothing where the system shows none.
    pub temperature_milli_c: Option<i32>,
}

/// Takes samples of one machine.
#[derive(Debug)]
pub struct Sampler {
    system: System,
    // Where the system shows any.
    sensors: Option<Components>,
    store: PathBuf,
}

impl Sampler {
    /// Prepares to sample, with the disk that holds `store`.
    ///
    /// # Errors
    /// [`HeartbeatError::NoCounters`] if the system gives no access to its counters.
    pub fn new(store: impl Into<PathBuf>) -> Result<Sampler, HeartbeatError> {
        let kind = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing().with_usage());
        let system = System::new_with_specifics(kind).map_err(|error| HeartbeatError::NoCounters {
            reason: error.to_string(),
        })?;
        Ok(Sampler {
            system,
            sensors: Components::new_with_refreshed_list().ok(),
            store: store.into(),
        })
    }

    /// Reads all gauges now.
    pub fn sample(&mut self) -> Gauges {
        self.system.refresh_cpu_usage();
        self.system
            .refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let total = self.system.total_memory();
        let (disk_free_bytes, disk_total_bytes) = disk_space(&self.store);
        let load = System::load_average().map_or(0.0, |load| load.one);
        Gauges {
            cpu_per_mille: rounded::<u16>(f64::from(self.system.global_cpu_usage()) * 10.0).min(1000),
            cpu_count: u16::try_from(self.system.cpus().len()).unwrap_or(u16::MAX),
            memory_used_bytes: total.saturating_sub(self.system.available_memory()),
            memory_total_bytes: total,
            disk_free_bytes,
            disk_total_bytes,
            load1_centi: rounded(load * 100.0),
            uptime_s: System::uptime().unwrap_or(0),
            temperature_milli_c: self.temperature_milli_c(),
        }
    }

    fn temperature_milli_c(&mut self) -> Option<i32> {
        let sensors = self.sensors.as_mut()?;
        sensors.refresh(false);
        hottest(sensors.iter().filter_map(|sensor| sensor.temperature()))
    }
}

/// Free and total bytes of the file system that holds a path; zeros where it cannot be read. Asked directly: listing all disks
/// would touch network mounts that hang.
pub(crate) fn disk_space(path: &Path) -> (u64, u64) {
    rustix::fs::statvfs(path).map_or((0, 0), |disk| {
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        (bytes(disk.f_bavail), bytes(disk.f_blocks))
    })
}

/// The highest of some temperatures in degrees Celsius, in thousandths; what is no number or colder than ice is a broken sensor's.
fn hottest(degrees: impl Iterator<Item = f32>) -> Option<i32> {
    let real = degrees.filter(|degree| *degree > 0.0 && *degree < 1000.0);
    real.map(|degree| rounded::<i32>(f64::from(degree) * 1000.0))
        .max()
}

/// The nearest whole number; 0 for what is negative or no number, and for what does not fit.
fn rounded<T: TryFrom<u64> + Default>(value: f64) -> T {
    format!("{value:.0}")
        .parse::<u64>()
        .ok()
        .and_then(|whole| T::try_from(whole).ok())
        .unwrap_or_default()
}

/// An identifier that changes with every boot of the system and only then: `/proc/sys/kernel/random/boot_id` on Linux,
/// `kern.bootsessionuuid` on macOS, elsewhere `booted-at-` and the boot time in seconds since 1970.
///
/// # Errors
/// [`HeartbeatError::NoBootId`] if the system tells none of these.
pub fn os_boot_id() -> Result<String, HeartbeatError> {
    if let Some(id) = system_boot_id() {
        return Ok(id);
    }
    match System::boot_time() {
        Ok(seconds) => Ok(format!("booted-at-{seconds}")),
        Err(error) => Err(HeartbeatError::NoBootId {
            reason: error.to_string(),
        }),
    }
}

#[cfg(target_os = "linux")]
fn system_boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

#[cfg(target_os = "macos")]
fn system_boot_id() -> Option<String> {
    let answer = std::process::Command::new("/usr/sbin/sysctl")
        .args(["-n", "kern.bootsessionuuid"])
        .output()
        .ok()?;
    let id = String::from_utf8(answer.stdout).ok()?;
    Some(id.trim().to_ascii_lowercase()).filter(|id| answer.status.success() && !id.is_empty())
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn system_boot_id() -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn gauges_are_those_of_a_real_machine() {
        let mut sampler = Sampler::new("/").unwrap();
        sampler.sample();
        let gauges = sampler.sample();
        assert!(gauges.cpu_per_mille <= 1000 && gauges.cpu_count > 0);
        assert!(gauges.memory_used_bytes > 0 && gauges.memory_used_bytes < gauges.memory_total_bytes);
        assert!(gauges.disk_total_bytes > 0 && gauges.disk_free_bytes <= gauges.disk_total_bytes);
        assert!(gauges.uptime_s > 0);
    }

    #[test]
    fn an_unreadable_disk_is_told_by_a_total_of_zero() {
        let gauges = Sampler::new("/does/not/exist").unwrap().sample();
        assert_eq!((gauges.disk_free_bytes, gauges.disk_total_bytes), (0, 0));
    }

    #[test]
    fn the_hottest_sensor_is_told_and_a_broken_one_is_not() {
        assert_eq!(
            hottest([41.5, f32::NAN, 61.25, -3.0, 65_536.0].into_iter()),
            Some(61_250)
        );
        assert_eq!(hottest([f32::NAN].into_iter()), None);
        assert_eq!(hottest(std::iter::empty()), None);
    }

    #[test]
    fn rounding_never_wraps() {
        assert_eq!(rounded::<u16>(999.6), 1000);
        assert_eq!(rounded::<u16>(-1.0), 0);
        assert_eq!(rounded::<u16>(f64::NAN), 0);
        assert_eq!(rounded::<u16>(70_000.0), 0);
    }

    #[test]
    fn the_boot_id_is_the_same_within_one_boot() {
        let id = os_boot_id().unwrap();
        assert!(!id.is_empty() && id == id.trim());
        assert_eq!(id, os_boot_id().unwrap());
    }
}
