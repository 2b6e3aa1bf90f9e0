//! What `/metrics` says, as a program reads it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::Gateway;

/// One scrape: each series with its value.
pub struct Scrape {
    series: BTreeMap<String, f64>,
    text: String,
}

impl Gateway {
    pub fn scrape(&self) -> Scrape {
        Scrape::of(self.admin("/metrics").text())
    }

    /// One with everything in it: what is told of the disk is missing while the disk does
    /// not answer soon, as on a machine with much else to do.
    #[track_caller]
    pub fn whole_scrape(&self) -> Scrape {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let scrape = self.scrape();
            let of_disk = ["audit_disk_free_bytes", "audit_disk_size_bytes"];
            if of_disk.iter().all(|series| scrape.find(series).is_some()) {
                return scrape;
            }
            assert!(Instant::now() < end, "no disk in\n{}", scrape.text());
        }
    }
}

impl Scrape {
    pub fn of(text: String) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let mut series = BTreeMap::new();
        for sample in samples {
            let (name, value) = sample.rsplit_once(' ').unwrap();
            let before = series.insert(name.to_owned(), value.parse().unwrap());
            assert!(before.is_none(), "{name} stands twice in {text}");
        }
        Self { series, text }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The value of one series, without the common prefix.
    #[track_caller]
    pub fn get(&self, series: &str) -> f64 {
        let name = format!("alloy_gateway_{series}");
        let found = self.series.get(&name);
        *found.unwrap_or_else(|| panic!("no {name} in\n{}", self.text))
    }

    /// The value of one series, if it is there.
    pub fn find(&self, series: &str) -> Option<f64> {
        self.series.get(&format!("alloy_gateway_{series}")).copied()
    }

    /// The sum of all series with this name.
    pub fn sum(&self, name: &str) -> f64 {
        let start = format!("alloy_gateway_{name}{{");
        let all = self.series.iter();
        all.filter(|(series, _)| series.starts_with(&start))
            .map(|(_, value)| value)
            .sum()
    }

    /// The names of all series, without labels.
    pub fn names(&self) -> BTreeSet<&str> {
        let names = self.series.keys();
        names.map(|name| name.split('{').next().unwrap()).collect()
    }

    /// Every series as it stands, with its value.
    pub fn series(&self) -> impl Iterator<Item = (&str, f64)> {
        self.series.iter().map(|(name, value)| (&**name, *value))
    }
}
