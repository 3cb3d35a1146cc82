use super::*;

/// What the configuration `text` says, with `words` on the command line.
fn plan(text: &str, words: &[&str]) -> anyhow::Result<Plan> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("site.toml");
    fs::write(&path, text).unwrap();
    let mut all = vec![OsString::from("--config"), path.clone().into_os_string()];
    all.extend(words.iter().map(OsString::from));
    Plan::of_words(&all)
}

fn problems(text: &str) -> Vec<String> {
    let error = plan(text, &[]).expect_err(text);
    let said = error.to_string();
    said.lines().map(|line| line.split("site.toml").nth(1).unwrap_or(line).to_owned()).collect()
}

/// A value that an option takes.
fn value(of: &Arg) -> &'static str {
    let candidates = [
        "1",
        "600",
        "/a",
        "/a=b",
        ".a=b/c",
        "127.0.0.1:80",
        "10.0.0.1/8",
        "fd00::1/64",
        "fd00::1",
        "10.0.0.1",
        "drop=1%",
    ];
    let names = of.get_possible_values();
    if let Some(name) = names.first() {
        return name.get_name().to_owned().leak();
    }
    let more = ["on", "kernel", "lru", "adaptive", "offload", "64M", "auto"];
    let takes = |text: &&str| {
        let alone = Arg::new("value").value_parser(of.get_value_parser().clone());
        Command::new("one").no_binary_name(true).arg(alone).try_get_matches_from([*text]).is_ok()
    };
    candidates.into_iter().chain(more).find(takes).unwrap_or_else(|| panic!("a value for {}", of.get_id()))
}

#[test]
fn every_option_is_a_key() {
    let command = command("serve");
    let mut seen = 0;
    for of in command.get_arguments() {
        let Some(key) = of.get_long().filter(|long| !NO_KEYS.contains(long)) else { continue };
        let text = match of.get_action() {
            ArgAction::SetTrue => format!("{key} = true\n"),
            ArgAction::Append => format!("{key} = [\"{}\"]\n", value(of)),
            ArgAction::Set => format!("{key} = \"{}\"\n", value(of)),
            other => panic!("{key}: {other:?} has no way to be said in a file"),
        };
        let mut reader = Reader { text: &text, problems: Vec::new() };
        let (settings, _) = reader.read();
        assert!(reader.problems.is_empty(), "{text}: {:?}", reader.problems);
        assert_eq!(settings.len(), 1, "{text}");
        seen += 1;
    }
    assert!(seen >= 45, "{seen}");
    // And those of a site are keys of hosts.
    let of_sites = site_command();
    let keys = of_sites.get_arguments().filter_map(Arg::get_long).filter(|long| !NO_KEYS.contains(long));
    for key in keys {
        assert!(argument(&command, key).is_some() && argument(&of_sites, key).is_some(), "{key}");
    }
}

#[test]
fn what_the_file_says_is_as_if_it_were_said_in_options() {
    let text = "site = \"/srv/www\"\nworkers = 3\ncompress = true\nlistings = false\nlisten = '0.0.0.0:80'\n\
                without = [\"pcb-pool\", \"date-cache\"]\n[[host]]\nnames = \"example.org\"\nsite = \"/srv/e\"\n\
                clean-urls = true\n[[host]]\nnames = [\"*.a\", \"b\"]\nsite = \"x.img\"\n";
    let plan_of_file = plan(text, &[]).unwrap();
    let of = &plan_of_file.arguments;
    assert_eq!((of.workers, of.listen.as_deref(), of.without.len()), (3, Some("0.0.0.0:80"), 2));
    assert_eq!(of.site.source.path(), Path::new("/srv/www"));
    let named = &plan_of_file.named;
    assert_eq!((named.len(), named[0].options.clean_urls, named[1].options.clean_urls), (2, true, false));
    assert_eq!(named[1].names, ["*.a".parse().unwrap(), "b".parse().unwrap()]);
    assert_eq!(named[1].options.source.path(), Path::new("x.img"));
    // The command line comes first, for values, lists and what has no name.
    let both = plan(text, &["--workers", "5", "--without", "zero-copy", "/other"]).unwrap();
    assert_eq!((both.arguments.workers, both.arguments.without.len()), (5, 1));
    assert_eq!(both.arguments.site.source.path(), Path::new("/other"));
    assert_eq!(both.arguments.listen.as_deref(), Some("0.0.0.0:80"));
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (text, expected) in [
        ("lisen = \"a\"\n", ":1:1: there is no `lisen`: is it `listen`?"),
        ("\n  access_log = \"a\"", ":2:3: there is no `access_log`: is it `access-log`?"),
        ("quux = 1", ":1:1: there is no `quux`: keys are the options of"),
        ("config = \"b.toml\"", ":1:1: there is no `config`"),
        ("workers = 0", ":1:11: `workers`: give a number, 1 to 1024"),
        ("workers = -1", ":1:11: `workers`: give a number, 1 to 1024"),
        ("workers = 1.5", ":1:11: `workers` takes N, as a string or a number, no float"),
        ("workers = [1]", ":1:11: `workers` has one value, not a list"),
        ("workers = true", ":1:11: `workers` takes N, as a string or a number, no boolean"),
        ("compress = 1", ":1:12: `compress` is true or false"),
        ("net = \"tape\"", ":1:7: `net`: there are kernel, tap, "),
        ("log-format = \"xml\"", ":1:14: `log-format`: there is no `xml`, but combined, json"),
        ("without = [\"pcb-pool\", \"wings\"]", ":1:24: `without`: "),
        ("[host]\nnames = \"a\"", ":1:2: each host is a table of its own: write [[host]]"),
        ("[[host]]\nsite = \"a\"", ":1:1: a host needs names"),
        ("[[host]]\nnames = []\nsite = \"a\"", ":2:9: a host has a name"),
        ("[[host]]\nnames = [\"a b\"]\nsite = \"a\"", ":2:10: `a b` is no name of a host"),
        ("[[host]]\nnames = \"a\"", ":1:1: a host needs something to serve"),
        ("[[host]]\nnames = \"a\"\nsite = \"a\"\nlisten = \"b\"", ":4:1: there is no `listen`"),
        ("[[host]]\nnames = \"a\"\nsite = \"a\"\nwritable = true", ":1:1: "),
        ("names = \"a\"", ":1:1: `names`: names stand in a table of a host"),
        ("[[hosts]]\nnames = \"a\"", ":1:3: `hosts`: names stand in a table of a host"),
        ("listen = \"a\"\nlisten = \"b\"", ":2:1: duplicate key"),
        ("listen = ", ":1:10: "),
        ("[[host]]\n\u{fc} = 1", ":2:1: "),
    ] {
        let said = problems(text);
        assert!(said[0].starts_with(expected), "{text}: {said:?}");
    }
    assert_eq!(problems("lisen = 1\nworkers = 0\n[[host]]\nx = 1\nsite = \"a\"\n").len(), 3, "all at once");
    // What options ask of each other is said of the file, too.
    let said = plan("site = \"a\"\nwritable = true", &[]).unwrap_err().to_string();
    assert!(
        said.contains("site.toml: ") && said.contains("--token-file") && !said.contains("Usage:"),
        "{said}"
    );
}

#[test]
fn what_only_a_restart_takes_up_is_known() {
    let text = "site = \"a\"\nlisten = \"b\"\nworkers = 1\nclean-urls = true\n";
    let before = plan(text, &[]).unwrap();
    let after =
        plan("site = \"c\"\nlisten = \"d\"\nadmin = \"127.0.0.1:1\"\naccess-log = \"x\"\n", &[]).unwrap();
    assert_eq!(after.unheeded(&before), ["admin", "listen", "workers"]);
    assert!(before.unheeded(&before).is_empty());
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(text: String) {
        let mut reader = Reader { text: &text, problems: Vec::new() };
        let _ = reader.read();
        for (span, _) in &reader.problems {
            let _ = position(&text, span.start);
        }
    }
}
