//! `easeld pack presets`: models that people use, what suits them, and under which licence they come.

use clap::Args;
use serde::{Deserialize, Serialize};

/// List well-known models: licence, size, and what to ask of them
#[derive(Debug, Args)]
pub(super) struct PresetsArgs {
    /// One model in full
    name: Option<String>,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

/// `models/presets.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    model: Vec<Known>,
}

/// One model.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Known {
    name: String,
    /// Its id at the hub.
    hub: String,
    title: String,
    licence: String,
    /// The licence asks to be accepted.
    #[serde(default)]
    accept: bool,
    commercial: String,
    steps: usize,
    guidance_scale: f64,
    scheduler: String,
    /// Pixels.
    size: usize,
    /// What a picture costs.
    class: String,
}

/// Runs the subcommand.
pub(super) fn run(args: &PresetsArgs) -> anyhow::Result<()> {
    let mut known = known();
    if let Some(name) = &args.name {
        let names: Vec<String> = known.iter().map(|model| model.name.clone()).collect();
        known.retain(|model| model.name == *name);
        anyhow::ensure!(!known.is_empty(), "no model '{name}' in the table; it has {}", names.join(", "));
    }
    if args.json {
        println!("{}", serde_json::to_string(&known)?);
    } else if let (Some(_), [model]) = (&args.name, &known[..]) {
        print(model);
    } else {
        table(&known);
    }
    Ok(())
}

/// The table that is compiled in.
fn known() -> Vec<Known> {
    let table: Table =
        toml::from_str(include_str!("../../../models/presets.toml")).expect("a test reads the table");
    table.model
}

fn table(known: &[Known]) {
    println!("{:<26} {:>4} px  {:<7} {:>2} steps  {:<40} commercial use", "name", "", "class", "", "licence");
    for model in known {
        let Known { name, size, class, steps, licence, commercial, .. } = model;
        println!("{name:<26} {size:>4} px  {class:<7} {steps:>2} steps  {licence:<40} {commercial}");
    }
    println!("\n`easeld pack presets NAME` says more; docs/models.md how a checkpoint becomes a pack.");
}

fn print(model: &Known) {
    println!("{}: {}", model.name, model.title);
    println!("  hub         {}", model.hub);
    println!("  licence     {}{}", model.licence, if model.accept { ", to be accepted" } else { "" });
    println!("  commercial  {}", model.commercial);
    let Known { size, steps, guidance_scale, scheduler, class, .. } = model;
    let plural = if *steps == 1 { "" } else { "s" };
    println!("  ask for     {steps} step{plural}, guidance {guidance_scale}, {scheduler}, {size} x {size}");
    println!("  class       {class}: {}", class_means(class));
}

/// What a picture of this class costs.
fn class_means(class: &str) -> &'static str {
    match class {
        "tiny" => "seconds on a Pi 4",
        "small" => "a Pi 5 with 4 GB",
        "medium" => "a board with 8 GB, some minutes",
        _ => "a Jetson or a PC",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::schedulers::SchedulerName;

    #[test]
    fn the_table_says_of_every_model_what_easeld_understands() {
        let known = known();
        for model in &known {
            assert!(model.scheduler.parse::<SchedulerName>().is_ok(), "{model:?}");
            assert!(["tiny", "small", "medium", "large"].contains(&model.class.as_str()), "{model:?}");
            assert_eq!(known.iter().filter(|other| other.name == model.name).count(), 1, "{model:?}");
        }
        assert_eq!(known[0].name, "emoji");
    }
}
