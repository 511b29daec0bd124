//! Where output goes and how it looks there: formats, width, colour, and tables.
//!
//! Everything that makes text is a pure function of data and a [`Look`]; only [`print()`] and
//! [`say`] write. Colour codes never go into a pipe or file, whatever is set.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{SystemTime, UNIX_EPOCH},
};

use clap::ValueEnum;
use comfy_table::{Attribute, Color, ColumnConstraint, ContentArrangement, Width, presets};
use prost_types::Timestamp;
use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

use crate::{
    failure::Failure,
    text::{clean, clean_document},
};

/// Columns of a terminal that does not say how wide it is.
const WIDTH_UNKNOWN: u16 = 80;
/// Columns between two columns of a table.
const GAP: u16 = 2;

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people, fitted to the terminal
    Table,
    /// A table with every column
    Wide,
    /// For programs; docs/operations/cli.md describes the shapes
    Json,
    /// The same shapes as YAML
    Yaml,
}

/// `-o`, for every command that shows something.
#[derive(Debug, Clone, clap::Args)]
pub struct OutputArgs {
    /// How to write the result
    #[arg(
        short = 'o',
        long = "output",
        value_enum,
        default_value = "table",
        value_name = "FORMAT"
    )]
    pub format: Format,
}

/// For whom text is made, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Columns to fit into; `None` where lines may be as long as they are.
    pub width: Option<u16>,
    pub colour: bool,
    /// What ages are counted from.
    pub now: Timestamp,
}

impl Look {
    /// Of this process's stdout, now.
    pub fn of_stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        let width = terminal.then(|| terminal_size().0);
        Self { width, colour: terminal && colour_wanted(), now: now() }
    }

    pub fn paint(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "31",
            Tone::Faint => "2",
            Tone::Strong => "1",
        };
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// <https://no-color.org>: set and not empty means no colour. A dumb terminal has none.
pub fn colour_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Columns and rows of the terminal behind stdout.
pub fn terminal_size() -> (u16, u16) {
    rustix::termios::tcgetwinsize(rustix::stdio::stdout())
        .ok()
        .filter(|size| size.ws_col > 0)
        .map_or((WIDTH_UNKNOWN, 24), |size| (size.ws_col, size.ws_row))
}

/// Now, on this machine's clock.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
    }
}

/// Writes to stdout.
///
/// # Errors
/// A silent [`Failure`] with exit code 0 where the reader has gone away.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// A line on stderr, for people beside the output; lost where nobody reads it.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// One document of JSON or YAML, with its last line ended.
///
/// # Errors
/// None for the shapes of this program.
pub fn document<T: Serialize>(value: &T, format: Format) -> Result<String, Failure> {
    let failed = |error: &dyn std::error::Error| {
        Failure::failed("the result could not be written as a document").because(error)
    };
    let text = match format {
        Format::Yaml => serde_saphyr::to_string(value).map_err(|error| failed(&error))?,
        Format::Json | Format::Table | Format::Wide => {
            serde_json::to_string_pretty(value).map_err(|error| failed(&error))?
        }
    };
    let text = clean_document(text.trim_end_matches('\n'));
    Ok(format!("{text}\n"))
}

/// One document of a stream: a line of JSON, or a YAML document that begins with `---`.
///
/// # Errors
/// None for the shapes of this program.
pub fn streamed<T: Serialize>(value: &T, format: Format) -> Result<String, Failure> {
    if format == Format::Yaml {
        return Ok(format!("---\n{}", document(value, format)?));
    }
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::failed("the result could not be written").because(&error))?;
    Ok(format!("{}\n", clean_document(&text)))
}

/// What a piece of text means, for its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
    Faint,
    Strong,
}

/// One cell: cleaned text with a tone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub fn new(text: impl AsRef<str>) -> Self {
        Self::toned(Tone::Plain, text)
    }

    pub fn toned(tone: Tone, text: impl AsRef<str>) -> Self {
        Self { text: clean(text.as_ref()).into_owned(), tone }
    }

    /// `-` where the text is empty.
    pub fn or_nothing(text: &str) -> Self {
        Self::new(crate::text::or_nothing(text))
    }
}

/// A table without lines, as kubectl and ps write them. Columns of words keep their width, columns
/// of text wrap, and a spare column is left out where the terminal is too narrow for all.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

/// A column: its title, and what may be done to it.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    title: &'static str,
    /// Its cells are one word each that should not be broken.
    word: bool,
    right: bool,
    spare: Spare,
}

/// Whether a column may be left out where the terminal is too narrow; the least goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Spare {
    First,
    Last,
    Never,
}

impl Column {
    /// May be left out; of several the last goes first.
    pub const fn spare(self) -> Column {
        Column { spare: Spare::First, ..self }
    }

    /// May be left out after all that are [`Column::spare`].
    pub const fn spare_at_last(self) -> Column {
        Column { spare: Spare::Last, ..self }
    }
}

/// A column of words.
pub const fn word(title: &'static str) -> Column {
    Column { title, word: true, right: false, spare: Spare::Never }
}

/// A column of figures: words that stand at its right edge.
pub const fn figure(title: &'static str) -> Column {
    Column { right: true, ..word(title) }
}

/// A column of text that may wrap.
pub const fn text(title: &'static str) -> Column {
    Column { word: false, ..word(title) }
}

/// Longer words are broken rather than given a column of their width.
const TEXT_WORD_MAX: usize = 20;

impl Table {
    pub fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        Self { columns: columns.into_iter().collect(), rows: vec![] }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table, each line ended.
    pub fn render(&self, look: &Look) -> String {
        let shown = self.shown(look.width);
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).force_no_tty();
        if look.colour {
            table.enforce_styling();
        }
        table.set_header(
            shown
                .iter()
                .filter_map(|index| self.columns.get(*index))
                .map(|column| comfy_table::Cell::new(column.title).add_attribute(Attribute::Bold)),
        );
        for row in &self.rows {
            table.add_row(shown.iter().filter_map(|index| row.get(*index)).map(styled));
        }
        self.arrange(&mut table, &shown, look);
        let mut text = String::new();
        for line in table.lines() {
            text.push_str(&trimmed(&line));
            text.push('\n');
        }
        text
    }

    /// The columns for which there is room, by index.
    fn shown(&self, width: Option<u16>) -> Vec<usize> {
        let mut shown: Vec<_> = (0..self.columns.len()).collect();
        while !self.fit(&shown, width) {
            let spare = |index: usize| self.columns.get(index).map_or(Spare::Never, |c| c.spare);
            let least = shown.iter().enumerate().rev().min_by_key(|(_, index)| spare(**index));
            match least {
                Some((position, index)) if spare(*index) != Spare::Never => {
                    shown.remove(position);
                }
                Some(_) | None => break,
            }
        }
        shown
    }

    /// Whether no word has to be broken.
    fn fit(&self, shown: &[usize], width: Option<u16>) -> bool {
        let least: usize = shown.iter().map(|index| self.least_width(*index)).sum();
        let gaps = usize::from(GAP) * shown.len().saturating_sub(1);
        width.is_none_or(|width| least + gaps <= usize::from(width))
    }

    /// Of a column's content, without the gap: below this, words are broken.
    fn least_width(&self, index: usize) -> usize {
        let Some(column) = self.columns.get(index) else { return 0 };
        let cells =
            self.rows.iter().filter_map(|row| row.get(index)).map(|cell| cell.text.as_str());
        let texts = cells.chain([column.title]);
        let columns_of = |text: &str| text.width();
        if column.word {
            return texts.map(columns_of).max().unwrap_or(0);
        }
        let words = texts.flat_map(str::split_whitespace).map(columns_of);
        words.max().unwrap_or(0).min(TEXT_WORD_MAX)
    }

    fn arrange(&self, table: &mut comfy_table::Table, shown: &[usize], look: &Look) {
        let fit = self.fit(shown, look.width);
        if let Some(width) = look.width {
            // The gap after the last column may hang over the edge: it is trimmed.
            table.set_width(width.saturating_add(GAP));
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        for (position, index) in shown.iter().enumerate() {
            let least = u16::try_from(self.least_width(*index)).unwrap_or(u16::MAX);
            let (Some(arranged), Some(column)) =
                (table.column_mut(position), self.columns.get(*index))
            else {
                continue;
            };
            arranged.set_padding((0, GAP));
            if fit {
                arranged.set_constraint(if column.word {
                    ColumnConstraint::ContentWidth
                } else {
                    ColumnConstraint::LowerBoundary(Width::Fixed(least.saturating_add(GAP)))
                });
            }
            if column.right {
                arranged.set_cell_alignment(comfy_table::CellAlignment::Right);
            }
        }
    }
}

/// Without blanks at its end, also where they are styled: on a terminal they would take columns.
fn trimmed(line: &str) -> String {
    let mut kept = line.trim_end();
    let mut codes = Vec::new();
    // Cells are cleaned: every escape is a code of ours, and ends with its only `m`.
    while let Some(start) = kept.rfind('\u{1b}') {
        let (before, code) = kept.split_at(start);
        if code.find('m') != Some(code.len() - 1) {
            break;
        }
        codes.push(code);
        kept = before.trim_end();
    }
    codes.reverse();
    format!("{kept}{}", codes.concat())
}

fn styled(cell: &Cell) -> comfy_table::Cell {
    let styled = comfy_table::Cell::new(&cell.text);
    match cell.tone {
        Tone::Plain => styled,
        Tone::Good => styled.fg(Color::DarkGreen),
        Tone::Warning => styled.fg(Color::DarkYellow),
        Tone::Bad => styled.fg(Color::DarkRed),
        Tone::Faint => styled.add_attribute(Attribute::Dim),
        Tone::Strong => styled.add_attribute(Attribute::Bold),
    }
}

/// `Name:   value` lines, the values in one column, each line ended.
pub fn fields<'a>(look: &Look, pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let pairs: Vec<_> = pairs.into_iter().collect();
    let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0) + 1;
    let mut text = String::new();
    for (name, value) in pairs {
        let title = look.paint(Tone::Strong, &format!("{:width$}", format!("{name}:")));
        text.push_str(format!("{title}  {value}").trim_end());
        text.push('\n');
    }
    text
}

/// A block moved to the right.
pub fn indented(block: &str) -> String {
    block.lines().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn look(width: Option<u16>, colour: bool) -> Look {
        Look { width, colour, now: Timestamp { seconds: 1_000, nanos: 0 } }
    }

    fn sample() -> Table {
        let mut table = Table::new([word("NAME"), figure("COUNT"), text("MESSAGE")]);
        table.row([
            Cell::toned(Tone::Good, "zone-a"),
            Cell::new("3"),
            Cell::new("the quick brown fox jumps over the lazy dog"),
        ]);
        table.row([Cell::new("b"), Cell::new("12"), Cell::new("short\u{1b}[2J")]);
        table
    }

    #[test]
    fn a_table_fits_its_width_and_only_text_wraps() {
        for width in [30, 40, 60] {
            let text = sample().render(&look(Some(width), false));
            for line in text.lines() {
                assert!(line.chars().count() <= width.into(), "{width}: {line:?}");
            }
            assert!(text.contains("zone-a"), "{text}");
        }
    }

    #[test]
    fn a_pipe_gets_whole_lines_without_colour_or_padding() {
        let text = sample().render(&look(None, false));
        assert_eq!(text.lines().count(), 3);
        assert!(!text.contains('\u{1b}') && text.lines().all(|line| !line.ends_with(' ')));
    }

    #[test]
    fn a_terminal_gets_colour() {
        let text = sample().render(&look(Some(80), true));
        assert!(text.contains("\u{1b}["));
        assert_eq!(look(None, false).paint(Tone::Bad, "x"), "x");
    }

    proptest! {
        #[test]
        fn any_table_fits_any_terminal(
            width in 30_u16..200,
            rows in prop::collection::vec(prop::collection::vec("[ -~가-힣\\x1b]{0,40}", 5), 1..6),
            colour: bool,
        ) {
            let columns =
                [word("A"), figure("LONG TITLE").spare(), text("C"), word("D").spare(), text("E")];
            let mut table = Table::new(columns);
            for row in rows {
                table.row(row.iter().map(|text| Cell::toned(Tone::Bad, text)));
            }
            let rendered = table.render(&look(Some(width), colour));
            for line in rendered.lines() {
                let plain = line.replace("\u{1b}[38;5;1m", "").replace("\u{1b}[39m", "");
                let plain = plain.replace("\u{1b}[1m", "").replace("\u{1b}[0m", "");
                prop_assert!(!plain.contains('\u{1b}'), "{plain:?}");
                prop_assert!(plain.width() <= usize::from(width), "{width}: {plain:?}");
                prop_assert_eq!(plain.trim_end(), &plain);
            }
        }
    }

    #[test]
    fn documents_never_carry_control_characters_and_are_read_back() {
        let value = ["\u{1b}[2J", "\u{9b}\u{7f}", "보드", "on", "1.10", "a\nb"];
        for format in [Format::Json, Format::Yaml] {
            let text = document(&value, format).unwrap();
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
            let read: Vec<String> = serde_saphyr::from_str(&text).unwrap();
            assert_eq!(read, value, "{text}");
        }
    }
}
