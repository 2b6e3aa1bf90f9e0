//! Lists of users: reading them, and those that name nobody.

use std::{collections::HashSet, path::Path};

use super::{Snapshot, UserSet, secrets::read_file};
use crate::{
    background,
    config::{
        expected_id,
        problem::{FieldPath, Problem},
        settings::{Mode, Settings, Tenant, Users},
        without_mark,
    },
    ids::{IdGrammar, UserId},
    secret::hex,
};

/// The longest list of users that is read, in bytes.
const USERS_BYTES_MAX: u64 = 64 << 20;
/// Of very many tenants that may touch nobody, so many are told one by one.
const TOLD_MAX: usize = 100;

/// Whom a tenant may touch; its file is read, if it has one.
///
/// # Errors
///
/// What is wrong with the file.
pub fn user_set(users: &Users, grammar: IdGrammar) -> Result<UserSet, String> {
    read(users, grammar, &mut Lists::default())
}

/// The same; what was read is noted in `lists`.
///
/// # Errors
///
/// What is wrong with the file.
pub fn read(users: &Users, grammar: IdGrammar, lists: &mut Lists) -> Result<UserSet, String> {
    Ok(match users {
        Users::All => UserSet::All,
        Users::Listed(users) => UserSet::Only(Box::new(users.iter().cloned().collect())),
        Users::File(path) => UserSet::Only(Box::new(read_users(path, grammar, lists)?)),
    })
}

/// What tells the lists that were read from others: they may change under one config.
#[derive(Debug, Default)]
pub struct Lists {
    /// The SHA-256 of each, in hex, a line for each. Of the contents alone what moves from the
    /// end of one list to the beginning of the next would be the same.
    sums: String,
}

impl Lists {
    fn add(&mut self, content: &[u8]) {
        self.sums += &hex(&background::sha256(content));
        self.sums.push('\n');
    }

    /// The first 12 hex digits of the SHA-256 over all; `None` if none was read.
    pub fn digest(&self) -> Option<Box<str>> {
        if self.sums.is_empty() {
            return None;
        }
        let sum = background::sha256(self.sums.as_bytes());
        Some(hex(&sum).chars().take(12).collect())
    }
}

/// Warnings about lists that name nobody, as an emptied file does: that locks a tenant out.
pub fn without_users(settings: &Settings, snapshot: &Snapshot) -> Vec<Problem> {
    let tenants = settings.tenants.iter().zip(&snapshot.tenants).enumerate();
    let locked_out = tenants.filter(|(_, (tenant, ready))| {
        background::give_way();
        let names_nobody = matches!(&ready.users, UserSet::Only(users) if users.is_empty());
        // Of one that is suspended all calls are refused anyway, and for another reason.
        names_nobody && tenant.mode != Mode::Suspended
    });
    let mut locked_out = locked_out.map(|(at, (tenant, _))| (at, tenant));
    let told = locked_out.by_ref().take(TOLD_MAX);
    let mut warnings: Vec<_> = told.map(|(at, tenant)| names_nobody(at, tenant)).collect();
    let untold = locked_out.count();
    if untold > 0 {
        let at = FieldPath::root().key("tenants");
        let message = format!("so many more have a list of users that names nobody: {untold}");
        warnings.push(Problem::new(at, message));
    }
    warnings
}

fn names_nobody(tenant_at: usize, tenant: &Tenant) -> Problem {
    let at = FieldPath::root().key("tenants").index(tenant_at);
    let at = at.key("users");
    let (at, list) = match &tenant.users {
        Users::File(path) => (at.key("file"), path.display().to_string()),
        _ => (at, "the list".to_owned()),
    };
    let each = "names nobody: each call of the tenant is 403 user-not-allowed";
    Problem::new(at, format!("{list} {each}"))
}

fn read_users(
    path: &Path,
    grammar: IdGrammar,
    lists: &mut Lists,
) -> Result<HashSet<UserId>, String> {
    let content = read_file(path, USERS_BYTES_MAX)?;
    if content.len() as u64 > USERS_BYTES_MAX {
        return Err(format!(
            "{} is longer than {USERS_BYTES_MAX} bytes",
            path.display()
        ));
    }
    lists.add(&content);
    let text = String::from_utf8(content)
        .map_err(|error| format!("{} is not UTF-8 ({error})", path.display()))?;
    let text = without_mark(&text);
    let mut bad = BadLines::default();
    let lines = (1..)
        .zip(text.lines())
        .map(|(number, line)| (number, line.split('#').next().unwrap_or_default().trim()))
        .inspect(|_| background::give_way())
        .filter(|(_, id)| !id.is_empty());
    let users = lines.filter_map(|(number, id)| {
        let user = UserId::parse(id, grammar);
        if user.is_none() {
            bad.add(number);
        }
        user
    });
    let users = users.collect();
    match bad.told(expected_id(grammar)) {
        None => Ok(users),
        Some(what) => Err(format!("{} {what}", path.display())),
    }
}

/// The lines of a file that are wrong: the first of them, since a list of thousands helps
/// nobody, and a file may have millions. What stands there may nearly be the id of a
/// person, and goes into no log.
#[derive(Default)]
struct BadLines {
    first: Vec<usize>,
    more: usize,
}

impl BadLines {
    const FIRST_MAX: usize = 10;

    fn add(&mut self, number: usize) {
        if self.first.len() < Self::FIRST_MAX {
            self.first.push(number);
        } else {
            self.more += 1;
        }
    }

    /// What is wrong, if anything is.
    fn told(&self, expected: &str) -> Option<String> {
        if self.first.is_empty() {
            return None;
        }
        let numbers: Vec<_> = self.first.iter().map(ToString::to_string).collect();
        let more = match self.more {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let lines = numbers.join(", ");
        Some(format!(
            "line {lines}{more}: expected a user id: {expected}"
        ))
    }
}
