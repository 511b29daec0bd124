//! What is measured, one module for each name of `--only`.

mod agent;
mod alerts;
mod cli;
mod console;
mod container;
mod detect;
mod history;
mod hosts;
mod join;
mod load;
mod loss;
mod master;
mod monitored;
mod rest;
mod simulator;
mod size;
mod soak;

use anyhow::Result;
use clap::ValueEnum;

use crate::{figure::Figure, ground::Ground};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    /// Bytes of the NodeAgent as it is shipped
    Size,
    /// What an idle agent takes: memory, wire, CPU, and what it makes Podman take
    Agent,
    /// What an agent takes whose ten containers' logs are read, and whose figures are looked at
    Monitored,
    /// What an idle master takes, and how often it writes to its disk
    Master,
    /// A master that remembers a month of ten nodes with ten containers each
    History,
    /// How long `piccolo node list` takes
    Cli,
    /// From the start of an agent to Ready
    Join,
    /// From a failure to NotReady, and back
    Detect,
    /// From a container's death to the event
    Container,
    /// Ten minutes with a tenth of all packets lost
    Loss,
    /// A thousand and five thousand agents on one master
    Load,
    /// Two hundred nodes listed over REST, five hundred times a second
    Rest,
    /// From a condition to a webhook, a mail server and a subscriber of MQTT
    Alerts,
    /// The web console in a browser: its first paint, its bytes, and a change on a node
    Console,
    /// On real hosts with systemd: the system check, a boot, a killed master, an agent's memory
    Hosts,
    /// Ten minutes of heavy churn, and what has grown by it
    Soak,
    /// How fast clusters are simulated
    Simulator,
}

impl Group {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    pub(crate) fn measure(self, ground: &Ground) -> Result<Vec<Figure>> {
        match self {
            Self::Size => size::measure(ground),
            Self::Agent => agent::measure(ground),
            Self::Monitored => monitored::measure(ground),
            Self::Master => master::measure(ground),
            Self::History => history::measure(ground),
            Self::Cli => cli::measure(ground),
            Self::Join => join::measure(ground),
            Self::Detect => detect::measure(ground),
            Self::Container => container::measure(ground),
            Self::Loss => loss::measure(ground),
            Self::Load => load::measure(ground),
            Self::Rest => rest::measure(ground),
            Self::Alerts => alerts::measure(ground),
            Self::Console => console::measure(ground),
            Self::Hosts => hosts::measure(ground),
            Self::Soak => soak::measure(ground),
            Self::Simulator => simulator::measure(ground),
        }
    }
}
