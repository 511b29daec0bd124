use std::path::Path;

use proptest::prelude::*;

use crate::value::{Name, Span, Whole, Words, YES_OR_NO};
use crate::*;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Config {
    name: Option<piccolo_core::model::NodeName>,
    labels: std::collections::BTreeMap<String, String>,
    colours: Vec<Colour>,
    count: u32,
    quick: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colour {
    Red,
    Green,
}

const COLOUR: Words<Colour> = Words(&[("red", Colour::Red), ("green", Colour::Green)]);
const SCHEMA: Schema<Config> = Schema {
    settings: &[
        Setting { key: "name", field: |c| Box::new(Maybe(&mut c.name, Name)) },
        Setting { key: "labels", field: |c| Box::new(Pairs(&mut c.labels, |_, _| Ok(()))) },
        Setting { key: "deep.down.colours", field: |c| Box::new(List(&mut c.colours, COLOUR)) },
        Setting {
            key: "deep.down.count",
            field: |c| Box::new(One(&mut c.count, Whole::within(0, 9))),
        },
        Setting { key: "deep.quick", field: |c| Box::new(One(&mut c.quick, YES_OR_NO)) },
    ],
    default_file: "/no/such/file",
    prefix: "T_",
    other_variables: &[],
};

fn parsed(text: &str) -> Result<Loaded<Config>, Error> {
    let mut loaded = Loaded::default();
    SCHEMA.yaml(&mut loaded.config, &mut loaded.origins, Path::new("f"), text)?;
    Ok(loaded)
}

#[test]
fn what_is_wrong_has_its_place() {
    for (text, expected) in [
        ("name: a\n...\n---\nname: b\n", "f:3:1: a second document begins here"),
        ("a: &x 1\nname: *x\n", "f:2:7: aliases are not known here; write the value again"),
        ("deep: 3\n", "f:1:7: expected a mapping with down, quick, found a single value"),
        ("deep.quick: true\n", "f:1:1: unknown key `deep.quick`; known are name, labels, deep"),
        (
            "deep: {down: {colours: [red, blue]}}\n",
            "f:1:30: expected `red` or `green`, found `blue`",
        ),
        ("deep: {down: {colours: [red, ~]}}\n", "f:1:30: expected `red` or `green`, found nothing"),
        ("labels: {a: [b]}\n", "f:1:13: expected a single value, found a list"),
        ("? [a]\n: b\n", "f:1:3: expected a key, found something longer"),
        ("deep: {down: {count: 10}}\n", "f:1:22: expected a whole number from 0 to 9, found `10`"),
    ] {
        assert_eq!(parsed(text).unwrap_err().to_string(), expected, "{text}");
    }
    let deep = format!("labels: {}{}", "[".repeat(50), "]".repeat(50));
    assert!(parsed(&deep).unwrap_err().to_string().ends_with("more than 16 levels deep"));
}

#[test]
fn the_later_wins_and_is_remembered() {
    let environment = [("T_DEEP_DOWN_COUNT", "4"), ("T_LABELS", "a=b,c="), ("OTHER", "x")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let mut loaded = SCHEMA.load(None, environment).unwrap();
    loaded.origins.flag("deep.down.count", &mut loaded.config.count, None);
    loaded.origins.flags("deep.down.colours", &mut loaded.config.colours, &[Colour::Green]);
    let origin = |key| loaded.origins.of(key).map(ToString::to_string).unwrap_or_default();
    let keys = ["labels", "deep.down.count", "deep.down.colours", "deep.quick"];
    assert_eq!(keys.map(origin), ["T_LABELS", "T_DEEP_DOWN_COUNT", "a flag", ""]);
    let clash = Clash::new(["deep.quick", "deep.down.count"], "no");
    assert_eq!(loaded.origins.blame(clash).to_string(), "T_DEEP_DOWN_COUNT in the environment: no");
}

#[test]
fn spans_have_units() {
    for (text, ms, shown) in [
        ("90d", 7_776_000_000, "90d"),
        ("60m", 3_600_000, "1h"),
        ("20", 20_000, "20s"),
        ("1500ms", 1500, "1500ms"),
    ] {
        let span = read(&Span, text).unwrap();
        assert_eq!(span.as_millis(), ms, "{text}");
        assert_eq!(Span.show(&span), shown);
    }
    for bad in ["", "d", "-1s", "1w", "0s", "99999999999999999999d", "1.5h"] {
        assert!(read(&Span, bad).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(
        text in prop_oneof![
            ".{0,80}",
            r"((name|labels|deep|down|colours): ?[\[{&*!\n a-z0-9:-]{0,12}\n?){1,4}",
        ],
    ) {
        parsed(&text).ok();
    }

    #[test]
    fn what_is_shown_is_a_file_that_says_the_same(
        labels in prop::collection::btree_map("\\PC{0,6}|null|yes|[a-z0-9]{1,4}", "(?s).{0,9}|true|~", 0..4),
        green in any::<bool>(),
        count in 0..9u32,
    ) {
        let colours = if green { vec![Colour::Green, Colour::Red] } else { Vec::new() };
        let config = Config { labels, colours, count, quick: green, name: None };
        let mut loaded = Loaded { config: config.clone(), ..Loaded::default() };
        let text = SCHEMA.to_yaml(&mut loaded);
        let again = parsed(&text);
        prop_assert_eq!(again.map(|again| again.config).map_err(|error| error.to_string()), Ok(config), "{}", text);
    }
}
