//! Tests of `board` on trees with the shapes of real boards: `tests/golden/sysfs`, a line a file.

use tempfile::TempDir;

use super::*;

/// The tree of a board, as files.
fn tree(board: &str) -> TempDir {
    let listing = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/sysfs/{board}.txt"));
    let root = TempDir::new().unwrap();
    for line in fs::read_to_string(listing).unwrap().lines().filter(|line| !line.starts_with('#')) {
        let (path, content) = line.split_once(' ').unwrap_or((line, ""));
        write(&root, path, content);
    }
    root
}

fn write(root: &TempDir, path: &str, content: &str) {
    let path = root.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("{content}\n")).unwrap();
}

fn read(root: &TempDir) -> Readings {
    Board::new(root.path()).read()
}

#[test]
fn a_pi_4_at_rest_is_fine() {
    let readings = read(&tree("pi4"));
    let zone = Zone { name: "cpu-thermal".to_owned(), celsius: 48.686, passive_c: None };
    let governor = Some("ondemand".to_owned());
    let clock = Clock { mhz: 1500, max_mhz: 1800, capped: false, governor, offline: 0 };
    let expected = Readings {
        zones: vec![zone],
        clock: Some(clock),
        power: Some(Power::default()),
        // Its fan is a cooling device as well, and on; it slows nothing.
        kernel_throttles: false,
    };
    assert_eq!(readings, expected);
    assert_eq!(readings.celsius(), Some(48.7));
}

#[test]
fn a_pi_5_has_its_firmware_elsewhere() {
    let root = tree("pi5");
    assert_eq!(read(&root).power, Some(Power::default()));
    let firmware = "devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled";
    write(&root, firmware, "e0008");
    let power = read(&root).power.unwrap();
    assert!(power.soft_limit && power.throttled_before && !power.throttled && !power.under_voltage);
    write(&root, firmware, "4");
    assert!(read(&root).power.unwrap().throttled);
}

#[test]
fn a_zero_2_on_a_weak_charger_says_so() {
    let root = tree("zero2");
    let readings = read(&root);
    let power = readings.power.clone().unwrap();
    assert!(power.under_voltage && power.under_voltage_before && power.clock_capped && power.soft_limit);
    assert!(!power.throttled && power.throttled_before);
    assert_eq!(readings.celsius(), Some(81.1));
    // Newer firmware without the deprecated file: the voltage monitor alone says it.
    fs::remove_dir_all(root.path().join("devices/platform")).unwrap();
    let power = read(&root).power.unwrap();
    assert!(power.under_voltage && !power.clock_capped);
}

#[test]
fn an_orin_has_zones_that_do_not_count_and_cores_that_are_off() {
    let root = tree("orin");
    let readings = read(&root);
    let names: Vec<_> = readings.zones.iter().map(|zone| zone.name.as_str()).collect();
    assert_eq!(names, ["cpu-thermal", "soc0-thermal", "tj-thermal"], "not the dead ones, not PMIC-Die");
    assert_eq!(readings.zones[0].passive_c, Some(99.0));
    assert_eq!(readings.celsius(), Some(51.8));
    assert_eq!(readings.power.as_ref().map(|power| power.over_current_events), Some(7));
    let clock = readings.clock.unwrap();
    assert_eq!((clock.offline, clock.max_mhz), (2, 1510));
    assert!(!readings.kernel_throttles);
    write(&root, "class/thermal/cooling_device0/cur_state", "3");
    assert!(read(&root).kernel_throttles);
}

#[test]
fn a_machine_that_says_nothing_is_no_error() {
    let nothing = TempDir::new().unwrap();
    assert_eq!(read(&nothing), Readings::default());
    assert_eq!(read(&nothing).celsius(), None);
    assert_eq!(Board::new(Path::new("/nonexistent")).read(), Readings::default());
    // No zone, yet a sensor.
    write(&nothing, "class/hwmon/hwmon3/name", "k10temp");
    write(&nothing, "class/hwmon/hwmon3/temp1_input", "61250");
    assert_eq!(read(&nothing).celsius(), Some(61.3));
}
