//! A yard to run the real binary in: a demo site with its own token, a fleet, orders. Shared by the test binaries.
#![allow(dead_code)] // each test binary uses a part of it

pub(crate) mod opened;
pub(crate) mod provider;
pub(crate) mod shim;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use provider::{Provider, provider};
use shim::Shim;

/// A demo site in a directory of its own.
pub(crate) struct Yard {
    dir: TempDir,
    /// What the token's module needs.
    environment: Vec<(&'static str, String)>,
}

/// What a command did.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Fails the test with everything the command said when the exit code is another.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// The JSON object on stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}:\n{}\n{}", self.out, self.err))
    }
}

impl Yard {
    /// `init --demo`, on the token of this run.
    pub(crate) fn demo() -> Self {
        Self::on(provider())
    }

    /// The same on a token of this kind.
    pub(crate) fn on(provider: Provider) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let environment = provider.token_beside(dir.path());
        let yard = Self { dir, environment };
        let site = yard.site();
        let mut init = vec!["init".to_owned(), site.to_str().unwrap().to_owned(), "--demo".to_owned()];
        if provider != Provider::SoftHsm {
            for (option, path) in [("--module", provider.module()), ("--profile", provider.profile())] {
                init.extend([option.to_owned(), path.to_str().unwrap().to_owned()]);
            }
        }
        yard.command(&init.iter().map(String::as_str).collect::<Vec<_>>(), &[]).exits(0);
        fs::create_dir(yard.path("orders")).unwrap();
        yard
    }

    /// The same yard in a directory of its own: site, token, fleets, orders.
    pub(crate) fn copy(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let from = format!("{}/.", self.dir.path().display());
        assert!(Command::new("cp").arg("-a").args([&from]).arg(dir.path()).status().unwrap().success());
        Self { dir, environment: self.environment.clone() }
    }

    /// Chunks of so many records.
    pub(crate) fn chunks_of(&self, records: usize) {
        let file = self.site().join("bindery.toml");
        let config = fs::read_to_string(&file).unwrap();
        assert!(config.contains("chunk_records = 1000"));
        fs::write(file, config.replace("chunk_records = 1000", &format!("chunk_records = {records}"))).unwrap();
    }

    /// Puts a fault shim before the site's module.
    pub(crate) fn put_shim(&mut self) -> Shim {
        let file = self.site().join("bindery.toml");
        let config = fs::read_to_string(&file).unwrap();
        let line = config.lines().find(|line| line.starts_with("module = ")).unwrap();
        let shim = Shim::before(line.split('"').nth(1).unwrap());
        let shimmed = format!("module = {:?}", Shim::module().to_str().unwrap());
        fs::write(&file, config.replace(line, &shimmed)).unwrap();
        self.environment.extend(shim.environment());
        shim
    }

    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(relative)
    }

    pub(crate) fn site(&self) -> PathBuf {
        self.path("site")
    }

    /// `bindery --site site ARGS`.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, &[])
    }

    /// The same with environment variables.
    pub(crate) fn run_with(&self, args: &[&str], env: &[(&str, &str)]) -> Ran {
        let site = self.site();
        let all: Vec<&str> = ["--site", site.to_str().unwrap()].into_iter().chain(args.iter().copied()).collect();
        self.command(&all, env)
    }

    /// `bindery --site site ARGS`, not yet started.
    pub(crate) fn prepared(&self, args: &[&str]) -> Command {
        let mut command = self.bindery();
        command.arg("--site").arg(self.site()).args(args);
        command
    }

    /// What a process needs that works with this site's token.
    pub(crate) fn environment(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.environment.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// The same for this process, which may have one token only.
    pub(crate) fn enter(&self) {
        self.environment().for_each(|(name, value)| bindery::ffi::set_environment(name, value.as_ref()));
    }

    fn bindery(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bindery"));
        command.current_dir(self.dir.path()).env_remove("SOFTHSM2_CONF").env_remove("BINDERY_PIN");
        command.envs(self.environment());
        command
    }

    fn command(&self, args: &[&str], env: &[(&str, &str)]) -> Ran {
        let Output { status, stdout, stderr } = self.bindery().args(args).envs(env.iter().copied()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: status.code().unwrap_or(-1), out: text(stdout), err: text(stderr) }
    }

    /// A fleet of `eids` in `NAME/`; gives the lines of its key file.
    pub(crate) fn fleet(&self, name: &str, eids: usize) -> Vec<Value> {
        self.fleet_with(name, eids, &[])
    }

    /// The same with more arguments.
    pub(crate) fn fleet_with(&self, name: &str, eids: usize, more: &[&str]) -> Vec<Value> {
        let out = self.path(name);
        let args = ["fleet", "make", "--eids", &eids.to_string(), "--out", out.to_str().unwrap()];
        self.run(&[&args[..], more].concat()).exits(0);
        lines_json(&out.join("euicc.jsonl"))
    }

    /// Writes key lines and rows for a prebound order and gives the order, not yet written.
    pub(crate) fn prebound_order(&self, order_id: &str, keys: &[Value]) -> Order<'_> {
        let key_text: String = keys.iter().map(|key| format!("{key}\n")).collect();
        let rows: String =
            keys.iter().enumerate().map(|(i, key)| format!("{},{}\n", i + 1, key["eid"].as_str().unwrap())).collect();
        let mut order = Order::new(self, order_id, keys.len());
        order.file("euicc_data", &format!("{order_id}.euicc.jsonl"), &key_text);
        order.rows(&format!("row,eid\n{rows}"), keys.len());
        order
    }

    /// An order for profiles to be bound later.
    pub(crate) fn stored_order(&self, order_id: &str, eids: &[&str]) -> Order<'_> {
        let rows: String = eids.iter().enumerate().map(|(i, eid)| format!("{},{eid}\n", i + 1)).collect();
        let mut order = Order::new(self, order_id, eids.len());
        order.line()["mode"] = json!("order");
        order.rows(&format!("row,eid\n{rows}"), eids.len());
        order
    }

    /// The answers and the bundle of an order of tenant `acme`.
    pub(crate) fn outbox(&self, order_id: &str) -> PathBuf {
        self.site().join("outbox/acme").join(order_id)
    }

    /// What one number query of the ledger gives.
    pub(crate) fn ledger_count(&self, sql: &str) -> i64 {
        let ledger = rusqlite::Connection::open(self.site().join("state.db")).unwrap();
        ledger.query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

/// An order being written.
pub(crate) struct Order<'a> {
    yard: &'a Yard,
    pub(crate) header: Value,
}

impl<'a> Order<'a> {
    fn new(yard: &'a Yard, order_id: &str, quantity: usize) -> Self {
        // Ranges of different orders do not meet: the order id's digits choose the block.
        let block: u32 = order_id.bytes().fold(0, |sum, b| (sum * 31 + u32::from(b)) % 10_000);
        let header = json!({
            "schema": "bindery.order/1",
            "order_id": order_id,
            "tenant": "acme",
            "kind": "test",
            "accept": "all_or_nothing",
            "lines": [{
                "line": 1,
                "template": "operational@1",
                "mode": "prebound",
                "quantity": quantity,
                "iccid": {"first": iccid(&format!("8949{block:04}0000000000"))},
                "imsi": {"first": format!("00101{block:04}000001")},
                "credentials": "generate",
                "metadata": {"service_provider": "Test Telecom", "profile_name": "Test", "class": "operational"},
                "export": ["eim:demo", "core:demo"],
            }],
        });
        Self { yard, header }
    }

    pub(crate) fn line(&mut self) -> &mut Value {
        &mut self.header["lines"][0]
    }

    /// Writes a file beside the order and names it in the line with its hash.
    pub(crate) fn file(&mut self, member: &str, name: &str, content: &str) {
        fs::write(self.yard.path("orders").join(name), content).unwrap();
        self.line()[member] = json!({"file": name, "sha256": sha256_hex(content.as_bytes())});
    }

    pub(crate) fn rows(&mut self, csv: &str, count: usize) {
        let name = format!("{}.rows.csv", self.header["order_id"].as_str().unwrap());
        self.file("rows", &name, csv);
        self.line()["rows"]["count"] = json!(count);
    }

    pub(crate) fn write(&self) -> PathBuf {
        let path = self.yard.path("orders").join(format!("{}.json", self.header["order_id"].as_str().unwrap()));
        fs::write(&path, serde_json::to_vec_pretty(&self.header).unwrap()).unwrap();
        path
    }

    /// `order submit`.
    pub(crate) fn submit(&self) -> Ran {
        self.submit_with(&[])
    }

    /// The same with environment variables.
    pub(crate) fn submit_with(&self, env: &[(&str, &str)]) -> Ran {
        let path = self.write();
        self.yard.run_with(&["--json", "order", "submit", path.to_str().unwrap()], env)
    }
}

/// 18 digits and their Luhn digit.
pub(crate) fn iccid(body: &str) -> String {
    bindery::ids::Iccid::from_body(body).unwrap().to_string()
}

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&openssl::sha::sha256(bytes))
}

/// A JSON-lines file.
pub(crate) fn lines_json(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A CSV file as maps by column.
pub(crate) fn rows_csv(path: &Path) -> Vec<std::collections::HashMap<String, String>> {
    csv::Reader::from_path(path).unwrap().deserialize().map(Result::unwrap).collect()
}

/// Every file below a directory.
pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}
