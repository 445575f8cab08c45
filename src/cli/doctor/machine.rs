//! The processor, memory, the C library, the clock: what easeld runs on.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::findings::Finding;
use crate::device::memory;
use crate::engine::Isa;

/// The oldest C library that releases are built for.
const GLIBC: (u32, u32) = (2, 31);
/// Below this much memory nothing but the smallest models runs.
const MEMORY_MIN: u64 = 200 << 20;
/// 2024-01-01: a clock before it has not been set since the board was switched on.
const CLOCK_MIN: Duration = Duration::from_secs(1_704_067_200);

/// All of them.
pub(super) fn checks(threads: usize, isa: Isa) -> Vec<Finding> {
    let mut found =
        vec![cpu(threads, isa), memory_there(), cgroups(&read("/proc/cgroups"), &read_controllers())];
    found.extend(page_size());
    found.extend([glibc(), clock(SystemTime::now())]);
    found
}

/// What the board calls itself.
pub(in crate::cli) fn board() -> String {
    let model = read("/proc/device-tree/model");
    let product = || read("/sys/class/dmi/id/product_name");
    let name = [model, product()].into_iter().map(|name| name.trim_matches(['\0', '\n', ' ']).to_owned());
    name.into_iter().find(|name| !name.is_empty()).unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// The processor by name: x86 says it, on ARM it is the part number of its core.
pub(in crate::cli) fn cpu_name() -> String {
    let info = read("/proc/cpuinfo");
    let field = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim_start_matches(['\t', ' ', ':']).to_owned())
    };
    let core = match field("CPU part").as_deref() {
        Some("0xd03") => "Cortex-A53",
        Some("0xd04") => "Cortex-A35",
        Some("0xd05") => "Cortex-A55",
        Some("0xd07") => "Cortex-A57",
        Some("0xd08") => "Cortex-A72",
        Some("0xd0a") => "Cortex-A75",
        Some("0xd0b") => "Cortex-A76",
        Some("0xd42") => "Cortex-A78AE",
        Some("0x004") => "Carmel",
        Some(part) => return format!("ARM core {part}"),
        None => return field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
    };
    core.to_owned()
}

fn cpu(threads: usize, isa: Isa) -> Finding {
    let best = Isa::supported().pop().unwrap_or(isa);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let said = format!("{}, {cores} cores, {threads} threads, kernels for {}", cpu_name(), isa.name());
    if isa.name() != best.name() {
        let advice = format!("EASELD_ISA asks for it; without it there would be those for {}", best.name());
        return Finding::warn("cpu", said, advice);
    }
    if threads > cores {
        let advice =
            format!("more threads than cores slow each other down: set [inference] threads to 0 or {cores}");
        return Finding::warn("cpu", said, advice);
    }
    if isa.name() == "scalar" {
        return Finding::warn(
            "cpu",
            said,
            "this processor has no instructions that easeld has kernels for: pictures take long",
        );
    }
    Finding::ok("cpu", said)
}

fn memory_there() -> Finding {
    let (Some(limit), Some(free)) = (memory::limit_bytes(), memory::available_bytes()) else {
        let advice = "mount /proc; until then [inference] memory needs a size, not \"auto\"";
        return Finding::warn("memory", "/proc/meminfo cannot be read", advice);
    };
    let said = format!("{} MiB free of {} MiB", free >> 20, limit >> 20);
    if free < MEMORY_MIN {
        let advice = "stop other programs, or use a smaller model; [inference] weights = \"streamed\" keeps weights out of memory";
        return Finding::warn("memory", said, advice);
    }
    Finding::ok("memory", said)
}

/// The memory controller, without which a unit's MemoryMax= and MemoryHigh= say nothing.
fn cgroups(version_1: &str, version_2: &str) -> Finding {
    let has_2 = version_2.split_whitespace().any(|controller| controller == "memory");
    let line = version_1.lines().find(|line| line.starts_with("memory"));
    let has_1 = line.is_some_and(|line| line.split_whitespace().last() == Some("1"));
    if has_2 || has_1 {
        return Finding::ok("cgroups", "the kernel can limit memory (MemoryMax= of the unit)");
    }
    if version_1.is_empty() && version_2.is_empty() {
        return Finding::ok("cgroups", "not known: neither /proc/cgroups nor /sys/fs/cgroup can be read");
    }
    Finding::warn(
        "cgroups",
        "the kernel does not limit memory by control group: MemoryMax= of the unit says nothing",
        "on a Raspberry Pi append cgroup_enable=memory to the line in /boot/firmware/cmdline.txt and restart; easeld \
         keeps to [inference] memory by itself all the same",
    )
}

fn page_size() -> Option<Finding> {
    let kib = memory::page_kib()?;
    (kib != 4).then(|| Finding::ok("pages", format!("pages of {kib} KiB")))
}

fn glibc() -> Finding {
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let said = said.ok().filter(|output| output.status.success());
    let version = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let Some(version) = version else {
        return Finding::ok("libc", "not glibc, or one that does not say its version");
    };
    let number = version.rsplit(' ').next().and_then(|number| number.split_once('.'));
    let number = number.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    if number.is_some_and(|number: (u32, u32)| number < GLIBC) {
        let advice =
            format!("releases need {}.{}: build easeld on this machine, or update it", GLIBC.0, GLIBC.1);
        return Finding::warn("libc", version, advice);
    }
    Finding::ok("libc", version)
}

fn clock(now: SystemTime) -> Finding {
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let said = crate::jobs::report::rfc3339(now);
    if since_epoch < CLOCK_MIN {
        let advice = "it has not been set: TLS refuses certificates until it is, and [schedule] and [power] quiet_hours go by \
                      it. Wait for NTP, or fit a clock with a battery";
        return Finding::warn("clock", said, advice);
    }
    let synchronized = Path::new("/run/systemd/timesync/synchronized").exists();
    Finding::ok("clock", format!("{said}{}", if synchronized { ", set by NTP" } else { "" }))
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn read_controllers() -> String {
    read("/sys/fs/cgroup/cgroup.controllers")
}

#[cfg(test)]
mod tests {
    use super::super::findings::Level;
    use super::*;

    #[test]
    fn the_raspberry_pis_default_is_found() {
        // /proc/cgroups of a Raspberry Pi OS 12: version 2, memory switched off on the kernel's command line.
        let raspberry_pi = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t0\t71\t1\nmemory\t0\t71\t0\npids\t0\t71\t1\n";
        let finding = cgroups(raspberry_pi, "cpuset cpu io pids\n");
        assert_eq!(finding.level, Level::Warn);
        assert!(finding.advice.is_some_and(|advice| advice.contains("cgroup_enable=memory")));
        assert_eq!(cgroups(raspberry_pi, "cpuset cpu io memory pids\n").level, Level::Ok);
        assert_eq!(cgroups("memory\t5\t3\t1\n", "").level, Level::Ok);
    }

    #[test]
    fn a_clock_at_1970_is_found() {
        let finding = clock(SystemTime::UNIX_EPOCH + Duration::from_secs(90));
        assert_eq!((finding.level, finding.message.as_str()), (Level::Warn, "1970-01-01T00:01:30Z"));
        assert_eq!(clock(SystemTime::UNIX_EPOCH + CLOCK_MIN).level, Level::Ok);
    }
}
