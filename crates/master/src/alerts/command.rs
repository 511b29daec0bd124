//! Command channels: a program of this machine's administrator, in a folder that only they can write to. It gets the
//! notification on stdin and the main of it in its environment.

use std::path::Path;

use piccolo_core::monitoring_server::alerts::{alert::severity_name, channel::Notice};
use piccolo_program::{Program, in_folder};

use super::{Failed, message};

pub(super) async fn run(notice: &Notice, folder: &Path, argv: &[String]) -> Result<(), Failed> {
    let found = argv.split_first().and_then(|(name, rest)| Some((in_folder(folder, name)?, rest)));
    let Some((file, arguments)) = found else {
        return Err(Failed::ForGood("its program is no name of a file".to_owned()));
    };
    let alert = &notice.alert;
    let id = alert.id.to_string();
    let environment = [
        ("PICCOLO_ALERT_KEY", notice.key.as_str()),
        ("PICCOLO_ALERT_KIND", notice.kind.name()),
        ("PICCOLO_ALERT_ID", &id),
        ("PICCOLO_ALERT_RULE", &alert.rule),
        ("PICCOLO_ALERT_SEVERITY", severity_name(alert.severity)),
        ("PICCOLO_ALERT_MESSAGE", &alert.message),
        ("PICCOLO_ALERT_CLUSTER", &notice.cluster),
    ];
    let stdin = message::document(notice).to_string();
    let program = Program { file: &file, arguments, environment: &environment, stdin: &stdin };
    program.run().await.map_err(Failed::ForNow)
}
