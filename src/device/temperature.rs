//! How warm the processor is.

use std::fs;
use std::path::Path;

/// Where Linux says so.
const ZONES: &str = "/sys/class/thermal";

/// The warmest thermal zone, in degrees Celsius to a tenth; `None` where the machine has none.
pub fn celsius() -> Option<f64> {
    warmest(Path::new(ZONES))
}

fn warmest(zones: &Path) -> Option<f64> {
    let read =
        |entry: fs::DirEntry| fs::read_to_string(entry.path().join("temp")).ok()?.trim().parse::<i64>().ok();
    let thousandths = fs::read_dir(zones).ok()?.filter_map(Result::ok).filter_map(read).max()?;
    Some((thousandths as f64 / 100.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warmest_zone_counts() {
        let zones = tempfile::tempdir().unwrap();
        assert_eq!(warmest(zones.path()), None);
        for (zone, temp) in
            [("thermal_zone0", "48312\n"), ("thermal_zone1", "51260\n"), ("cooling_device0", "x")]
        {
            fs::create_dir(zones.path().join(zone)).unwrap();
            fs::write(zones.path().join(zone).join("temp"), temp).unwrap();
        }
        assert_eq!(warmest(zones.path()), Some(51.3));
    }
}
