//! What is measured: which servers, and which of them are compared.
//!
//! Each world (a transport in a setting) gives two tables. *Switches*: all specialisations on, against all
//! but one. *Stages*: from a process a request on, each with what the one before had and one thing more, as
//! the papers' server was built.

use std::fmt;
use std::str::FromStr;

use super::varied::{ContentSource, Varied};
use crate::cmd::features::{Feature, Mode, Net};

/// The interface between server and client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// Longest packet, in bytes.
    pub(super) mtu: u32,
    /// Whether interfaces sum and cut.
    pub(super) offload: bool,
}

/// `1500`, or `1500+offload`.
impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Setting, String> {
        let (mtu, offload) = match text.strip_suffix("+offload") {
            Some(mtu) => (mtu, true),
            None => (text, false),
        };
        match mtu.parse() {
            Ok(mtu @ 576..=65_000) => Ok(Setting { mtu, offload }),
            _ => Err("give bytes, 576 to 65000, as in 1500, or with offloads as in 1500+offload".to_owned()),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MTU {}, offloads {}", self.mtu, if self.offload { "on" } else { "off" })
    }
}

/// What serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A process a request.
    Processes,
    /// `cheetah serve --store folder` without some features.
    Folder(Vec<Feature>),
    /// `cheetah serve` of an image without some features; of a cold one with `--verify`.
    Image(Vec<Feature>),
    /// The same without `--verify`.
    Unverified(Vec<Feature>),
    /// `cheetah serve` of a program that shares memory with it, without some features.
    Shared(Vec<Feature>),
    /// The same of a program that is asked by FastCGI.
    FastCgi(Vec<Feature>),
}

impl Kind {
    /// The features that it lacks; `None` of another server.
    pub(super) fn without(&self) -> Option<&[Feature]> {
        match self {
            Kind::Processes => None,
            Kind::Folder(without)
            | Kind::Image(without)
            | Kind::Unverified(without)
            | Kind::Shared(without)
            | Kind::FastCgi(without) => Some(without),
        }
    }

    fn without_mut(&mut self) -> Option<&mut Vec<Feature>> {
        match self {
            Kind::Processes => None,
            Kind::Folder(without)
            | Kind::Image(without)
            | Kind::Unverified(without)
            | Kind::Shared(without)
            | Kind::FastCgi(without) => Some(without),
        }
    }
}

/// A server to be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) net: Net,
    pub(super) setting: Setting,
    /// Asked over HTTPS.
    pub(super) tls: bool,
    /// What it is asked for.
    pub(super) content: ContentSource,
    pub(super) kind: Kind,
}

/// The place of a server in [`Plan::servers`].
pub(super) type Index = usize;

/// What is varied, and what it is compared by.
#[derive(Clone, Debug)]
pub(super) struct Switch {
    pub(super) varied: Varied,
    pub(super) comparison: Result<Comparison, String>,
}

/// Two servers that differ in one thing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Comparison {
    pub(super) with: Index,
    pub(super) without: Index,
    /// What neither of the two has, for the feature would do nothing beside it.
    pub(super) beside: &'static [Feature],
}

/// A stage: what it adds to the one before.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) adds: String,
    pub(super) server: Index,
}

/// A transport in a setting.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) net: Net,
    pub(super) setting: Setting,
    pub(super) switches: Vec<Switch>,
    pub(super) stages: Vec<Stage>,
}

/// All that is measured.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// Over HTTPS.
    tls: bool,
    /// What is asked for.
    content: ContentSource,
    pub(super) servers: Vec<Server>,
    pub(super) worlds: Vec<World>,
}

impl Plan {
    /// For every transport in every setting, what is in `varied` and, if wanted, the stages; over HTTPS if
    /// `tls`.
    pub(super) fn new(
        nets: &[Net],
        settings: &[Setting],
        varied: &[Varied],
        with_stages: bool,
        tls: bool,
        content: ContentSource,
    ) -> Plan {
        let mut plan = Plan { tls, content, ..Plan::default() };
        for &net in nets {
            for &setting in settings {
                let switches = varied.iter().map(|&varied| plan.switch(net, setting, varied)).collect();
                let stages = if with_stages { plan.stages(net, setting) } else { Vec::new() };
                plan.worlds.push(World { net, setting, switches, stages });
            }
        }
        plan
    }

    fn switch(&mut self, net: Net, setting: Setting, varied: Varied) -> Switch {
        let comparison = match varied {
            Varied::Feature(feature) => self.compare(net, setting, feature),
            Varied::Verify if self.content == ContentSource::Cold => {
                Ok(self.compare_kinds(net, setting, Kind::Image, Kind::Unverified))
            }
            Varied::Verify => Err("what is in memory was checked when it came there: say --cold".to_owned()),
            Varied::SharedOutput if self.content == ContentSource::Program => {
                Ok(self.compare_kinds(net, setting, Kind::Shared, Kind::FastCgi))
            }
            Varied::SharedOutput => Err("no program is asked: say --programs".to_owned()),
        };
        Switch { varied, comparison }
    }

    /// Two kinds of servers that lack nothing.
    fn compare_kinds(
        &mut self,
        net: Net,
        setting: Setting,
        with: fn(Vec<Feature>) -> Kind,
        without: fn(Vec<Feature>) -> Kind,
    ) -> Comparison {
        let [with, without] =
            [with, without].map(|kind| self.server(net, setting, kind(given(net, setting))));
        Comparison { with, without, beside: &[] }
    }

    fn compare(&mut self, net: Net, setting: Setting, feature: Feature) -> Result<Comparison, String> {
        if let Some(why) = idle_for(feature, self.content) {
            return Err(why.to_owned());
        }
        if let Some(why) = idle_if_sealed(feature).filter(|_| self.tls) {
            return Err(why.to_owned());
        }
        // What is sealed is read by a loop whatever is known of it.
        let beside = if self.tls { &[] } else { beside(feature) };
        let in_memory = self.content != ContentSource::Cold;
        let mode = Mode { net, nic: false, folder: false, in_memory, tls: self.tls, writable: false };
        let mut with = given(net, setting);
        if feature == Feature::Offload && !with.is_empty() {
            return Err("this setting is the one without".to_owned());
        }
        with.extend(beside.iter().filter(|other| other.refusal(mode, &given(net, setting)).is_none()));
        let without: Vec<Feature> = with.iter().copied().chain([feature]).collect();
        if let Some(why) = feature.refusal(mode, &without) {
            return Err(why);
        }
        let kind = if self.content == ContentSource::Program { Kind::Shared } else { Kind::Image };
        let [with, without] = [with, without].map(|without| self.server(net, setting, kind(without)));
        Ok(Comparison { with, without, beside })
    }

    fn stages(&mut self, net: Net, setting: Setting) -> Vec<Stage> {
        let mut stages = Vec::new();
        let mut stage = |plan: &mut Plan, net, adds: &str, kind| {
            let server = plan.server(net, setting, kind);
            stages.push(Stage { adds: adds.to_owned(), server });
        };
        let tls = self.tls;
        if !tls {
            stage(self, Net::Kernel, "a process a request", Kind::Processes);
        }
        stage(
            self,
            Net::Kernel,
            "one process, events",
            Kind::Folder(nothing_special(Net::Kernel, true, tls)),
        );
        let mut without = nothing_special(net, false, tls);
        if net != Net::Kernel {
            stage(self, net, "our TCP", Kind::Folder(nothing_special(net, true, tls)));
        }
        stage(self, net, "our store", Kind::Image(without.clone()));
        let kept = given(net, setting);
        for feature in Feature::ALL {
            if without.contains(&feature) && !kept.contains(&feature) {
                without.retain(|&other| other != feature);
                stage(self, net, feature.name(), Kind::Image(without.clone()));
            }
        }
        stages
    }

    /// The place of that server; the same one for the same options.
    fn server(&mut self, net: Net, setting: Setting, mut kind: Kind) -> Index {
        if let Some(features) = kind.without_mut() {
            features.sort_by_key(|feature| Feature::ALL.iter().position(|other| other == feature));
            features.dedup();
        }
        let server = Server { net, setting, tls: self.tls, content: self.content, kind };
        match self.servers.iter().position(|other| *other == server) {
            Some(index) => index,
            None => {
                self.servers.push(server);
                self.servers.len() - 1
            }
        }
    }
}

/// All switches that do something on `net`.
fn nothing_special(net: Net, folder: bool, tls: bool) -> Vec<Feature> {
    let mode = Mode { net, nic: false, folder, in_memory: !folder, tls, writable: false };
    let works = |feature: &Feature| {
        feature.refusal(mode, &Feature::ALL).is_none() && !(tls && idle_if_sealed(*feature).is_some())
    };
    Feature::ALL.into_iter().filter(works).collect()
}

/// What a setting takes away from a server of our own stack before any switch.
fn given(net: Net, setting: Setting) -> Vec<Feature> {
    let has_offloads = matches!(net, Net::Tap | Net::Ring);
    if has_offloads && !setting.offload { vec![Feature::Offload] } else { Vec::new() }
}

/// Why a switch decides nothing about what is asked for, though `serve` takes it.
fn idle_for(feature: Feature, content: ContentSource) -> Option<&'static str> {
    match (content, feature) {
        (ContentSource::Cold, Feature::Grouping) => {
            Some("the site that is measured has no pages that embed anything")
        }
        (ContentSource::Cold, Feature::ZeroCopy) => {
            Some("what is not in memory whole is not sent by reference")
        }
        (ContentSource::Program, Feature::StoredSums | Feature::PrecomputedHeaders) => {
            Some("nothing was packed of what a program says")
        }
        (ContentSource::Program, Feature::ZeroCopy) => Some("what programs share is not sent by reference"),
        _ => None,
    }
}

/// Why a switch decides nothing about HTTPS, though `serve`, which answers in the clear beside it, takes it.
fn idle_if_sealed(feature: Feature) -> Option<&'static str> {
    match feature {
        Feature::StoredSums | Feature::CachedSums => {
            Some("what is sealed is other bytes each time, whose sums nobody knows")
        }
        Feature::ZeroCopy => Some("what is sealed is sent from where it was made"),
        _ => None,
    }
}

/// What must be off for a feature to have anything to do: loops where sums are not known, one kind of sums
/// where the other does not stand in for it.
fn beside(feature: Feature) -> &'static [Feature] {
    match feature {
        Feature::FusedLoops => &[Feature::StoredSums, Feature::CachedSums],
        Feature::StoredSums => &[Feature::CachedSums],
        Feature::CachedSums => &[Feature::StoredSums],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Setting = Setting { mtu: 1500, offload: false };
    const OFFLOAD: Setting = Setting { mtu: 1500, offload: true };

    fn plan() -> Plan {
        of(false, ContentSource::Memory)
    }

    fn of(tls: bool, content: ContentSource) -> Plan {
        let nets = [Net::Kernel, Net::Tap, Net::Packet];
        let with_stages = content == ContentSource::Memory;
        Plan::new(&nets, &[PLAIN, OFFLOAD], &Varied::of(content), with_stages, tls, content)
    }

    #[test]
    fn compared_servers_differ_in_one_feature() {
        let plan = plan();
        let mut seen = 0;
        for switch in plan.worlds.iter().flat_map(|world| &world.switches) {
            let Ok(comparison) = &switch.comparison else { continue };
            let features = |index: Index| plan.servers[index].kind.without().unwrap().to_vec();
            let (with, without) = (features(comparison.with), features(comparison.without));
            let more: Vec<_> = without.iter().filter(|feature| !with.contains(feature)).collect();
            assert_eq!(more.iter().map(|&&more| Varied::Feature(more)).collect::<Vec<_>>(), [switch.varied]);
            assert_eq!(without.len(), with.len() + 1);
            seen += 1;
        }
        assert!(seen > 20);
    }

    /// `serve` would take every one of them.
    #[test]
    fn no_server_has_a_switch_that_does_nothing() {
        let contents = [ContentSource::Memory, ContentSource::Cold, ContentSource::Program];
        let all = contents.into_iter().flat_map(|content| [of(false, content), of(true, content)]);
        for server in all.flat_map(|plan| plan.servers) {
            let Some(without) = server.kind.without() else { continue };
            let folder = matches!(server.kind, Kind::Folder(_));
            let in_memory = !folder && server.content != ContentSource::Cold;
            let mode =
                Mode { net: server.net, nic: false, folder, in_memory, tls: server.tls, writable: false };
            for feature in without {
                assert_eq!(feature.refusal(mode, without), None, "{server:?}");
            }
        }
    }

    #[test]
    fn what_a_switch_cannot_do_has_a_reason() {
        let plan = plan();
        let reason = |world: usize, feature: Feature| {
            let switches = &plan.worlds[world].switches;
            switches
                .iter()
                .find(|switch| switch.varied == feature.into())
                .unwrap()
                .comparison
                .clone()
                .unwrap_err()
        };
        assert!(reason(0, Feature::FusedLoops).contains("the kernel copies and sums"));
        assert!(reason(3, Feature::StoredSums).contains("the device sums"));
        assert!(reason(2, Feature::Offload).contains("setting"));
        assert!(reason(4, Feature::Offload).contains("no offloads"));
    }

    #[test]
    fn over_https_it_is_sealing_that_is_switched() {
        let plan = of(true, ContentSource::Memory);
        let switch = |world: usize, feature: Feature| {
            let switches = &plan.worlds[world].switches;
            switches.iter().find(|switch| switch.varied == feature.into()).unwrap().comparison.clone()
        };
        for world in 0..plan.worlds.len() {
            assert!(switch(world, Feature::FusedLoops).unwrap().beside.is_empty());
            assert!(switch(world, Feature::CachedSums).unwrap_err().contains("other bytes each time"));
            let in_the_frame = switch(world, Feature::FrameSealing);
            assert_eq!(in_the_frame.is_ok(), plan.worlds[world].net != Net::Kernel);
        }
        assert!(!plan.servers.iter().any(|server| server.kind == Kind::Processes));
    }

    #[test]
    fn what_is_cold_is_not_in_memory() {
        for world in of(false, ContentSource::Cold).worlds {
            assert!(world.stages.is_empty());
            for switch in world.switches {
                let of_memory = [Feature::ZeroCopy, Feature::Grouping].map(Varied::Feature);
                assert!(
                    !of_memory.contains(&switch.varied) || switch.comparison.is_err(),
                    "{}",
                    switch.varied
                );
            }
        }
    }

    #[test]
    fn checking_and_how_output_comes_are_varied_where_they_are() {
        for (content, varied) in
            [(ContentSource::Cold, Varied::Verify), (ContentSource::Program, Varied::SharedOutput)]
        {
            let plan = of(true, content);
            for world in &plan.worlds {
                let switch = world.switches.iter().find(|switch| switch.varied == varied).unwrap();
                let pair = switch.comparison.as_ref().unwrap();
                let [with, without] = [pair.with, pair.without].map(|at| plan.servers[at].kind.clone());
                assert_eq!(with.without(), without.without());
                assert_ne!(with, without);
            }
            let elsewhere = &mut Plan::default();
            assert!(elsewhere.switch(Net::Tap, PLAIN, varied).comparison.unwrap_err().contains("say --"));
        }
    }

    #[test]
    fn stages_add_one_thing_each_and_end_with_all() {
        for world in plan().worlds {
            let plan = plan();
            let last = &plan.servers[world.stages.last().unwrap().server];
            assert_eq!(last.kind, Kind::Image(given(world.net, world.setting)), "{world:?}");
            assert!(world.stages.len() > 5);
        }
    }

    #[test]
    fn settings_are_read() {
        assert_eq!("1500".parse(), Ok(PLAIN));
        assert_eq!("1500+offload".parse(), Ok(OFFLOAD));
        for text in ["", "10", "jumbo", "1500+", "70000"] {
            assert!(text.parse::<Setting>().is_err(), "{text}");
        }
    }
}
