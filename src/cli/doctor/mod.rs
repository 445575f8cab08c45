//! `easeld doctor`: looks at everything that keeps pictures from being made here, and says what to do about it.

mod broker;
mod bundle;
mod findings;
mod heat;
mod machine;
mod networks;
mod storage;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

use self::findings::{Finding, Level};
use self::networks::NetworkFindings;
use crate::config::{ConfigError, Settings};
use crate::device::board::Readings;
use crate::device::logging;
use crate::engine::{EngineOptions, Isa};

pub(super) use self::machine::{board, cpu_name};

/// Look for what keeps this machine from making pictures, and say what to do: configuration, broker, model,
/// processor, memory, disk, clock, heat
#[derive(Debug, Args)]
#[command(
    after_help = "Every line is ok, warn (it works, and could work better) or FAIL; with one that fails the exit code is 1.
As the service sees it:
  systemd-run --pty -p DynamicUser=yes -p StateDirectory=easeld easeld doctor
To ask for help, send the file that this writes (no password or key is in it):
  easeld doctor --bundle easeld.tar.gz"
)]
pub(super) struct DoctorArgs {
    /// A pack's name or directory: every network is loaded and run once on small inputs, and what is left to slower code
    /// is listed [default: [models] default]
    #[arg(long, value_name = "NAME or DIR")]
    model: Option<String>,
    /// Configuration file [default: /etc/easeld/config.toml, when there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Do not connect to the broker
    #[arg(long)]
    offline: bool,
    /// Write a file for whoever helps: these findings, the configuration without secrets, the newest log lines
    #[arg(long, value_name = "FILE.tar.gz")]
    bundle: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Everything, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Diagnosis {
    version: &'static str,
    board: String,
    threads: usize,
    isa: &'static str,
    isa_supported: Vec<&'static str>,
    findings: Vec<Finding>,
    /// What the board says of itself.
    readings: Readings,
    networks: Vec<NetworkFindings>,
}

/// Runs the subcommand.
///
/// # Errors
/// Something fails; it is printed before.
pub(super) fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    logging::init("off")?;
    let diagnosis = diagnose(args)?;
    if args.json {
        println!("{}", serde_json::to_string(&diagnosis).context("cannot print the findings")?);
    } else {
        print(&diagnosis, args.model.is_some());
    }
    if let Some(path) = &args.bundle {
        bundle::write(path, &diagnosis, args.config.as_deref())
            .with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!(
            "{}: look through it before you send it; no password or key of the configuration is in it",
            path.display()
        );
    }
    let failed = diagnosis.findings.iter().filter(|finding| finding.level == Level::Fail).count();
    if failed > 0 {
        bail!("{failed} of {} checks fail", diagnosis.findings.len());
    }
    Ok(())
}

fn diagnose(args: &DoctorArgs) -> anyhow::Result<Diagnosis> {
    let isa = Isa::choose()?;
    let (mut findings, settings) = configuration(args.config.as_deref());
    let threads =
        EngineOptions { threads: settings.inference.threads, ..EngineOptions::default() }.thread_count();
    findings.extend(machine::checks(threads, isa));
    let (of_heat, readings) = heat::checks(&settings.power);
    findings.extend(of_heat);
    findings.extend(storage::checks(&settings));
    if !args.offline {
        findings.push(broker::check(&settings));
    }
    let model = args.model.as_ref().unwrap_or(&settings.models.default);
    let (of_model, networks) = networks::checks(model, &settings);
    findings.extend(of_model);
    Ok(Diagnosis {
        version: env!("CARGO_PKG_VERSION"),
        board: board(),
        threads,
        isa: isa.name(),
        isa_supported: Isa::supported().into_iter().map(Isa::name).collect(),
        findings,
        readings,
        networks,
    })
}

/// Every problem of the configuration is a line; the checks after it go by the defaults then.
fn configuration(file: Option<&Path>) -> (Vec<Finding>, Settings) {
    match Settings::load(file) {
        Ok(settings) => {
            let said = format!("node {}, model {}", settings.node.name, settings.models.default);
            (vec![Finding::ok("config", said)], settings)
        }
        Err(ConfigError { problems }) => {
            let advice =
                "easeld serve --print-default-config explains every key; the checks below go by the defaults";
            let line = |problem| Finding::fail("config", problem, advice);
            (problems.iter().map(line).collect(), Settings::default())
        }
    }
}

fn print(diagnosis: &Diagnosis, all_nodes: bool) {
    println!(
        "easeld {} on {} (kernels: {})\n",
        diagnosis.version,
        diagnosis.board,
        diagnosis.isa_supported.join(", ")
    );
    print!("{}", findings::text(&diagnosis.findings));
    for NetworkFindings { component, operations, left_to_tract, .. } in
        diagnosis.networks.iter().filter(|_| all_nodes)
    {
        let operations: Vec<String> =
            operations.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        println!("\n{component}: {}", operations.join(", "));
        for node in left_to_tract {
            println!("  left to tract: {node}");
        }
    }
}
