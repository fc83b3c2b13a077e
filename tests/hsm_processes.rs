//! What happens between processes: wrong and right PINs from every source, a token that is not there, a site that was moved.
//! Each case opens the site in a child process (this same program), because one process has one token and one login.
#![allow(clippy::unwrap_used, clippy::panic)] // clippy exempts test functions, but not their helpers

mod yard;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use bindery::config::Site;
use bindery::hsm::pkcs11::Token;
use bindery::hsm::policy::KeyPolicy;
use yard::provider::{Provider, demo_site, provider};

const SITE: &str = "BINDERY_TEST_SITE";

/// Not a test by itself: opens the site named in the environment twice and tells what came of it.
#[test]
#[ignore = "started by the other tests, with a site in the environment"]
fn child() {
    let Some(site) = std::env::var_os(SITE) else { panic!("{SITE} is not set") };
    let site = Site::open(Path::new(&site)).unwrap();
    for attempt in ["first", "second", "third"] {
        match Token::open(&site) {
            Ok(token) => println!("{attempt}: open, {} keys", token.facts().keys),
            Err(fault) => println!("{attempt}: {:?}: {} / {}", fault.exit, fault.what, fault.hint.unwrap_or_default()),
        }
        if attempt == "second" && std::env::var_os("BINDERY_TEST_THEN_RIGHT").is_some() {
            bindery::ffi::set_environment("BINDERY_PIN", "".as_ref());
        }
    }
}

fn demo() -> &'static Site {
    static DEMO: OnceLock<(tempfile::TempDir, Site)> = OnceLock::new();
    &DEMO
        .get_or_init(|| {
            let directory = tempfile::tempdir().unwrap();
            let site = demo_site(directory.path());
            (directory, site)
        })
        .1
}

/// A copy of the demo site to spoil.
fn copy(to: &Path) -> Site {
    assert!(Command::new("cp").arg("-a").arg(demo().root()).arg(to).status().unwrap().success());
    Site::open(to).unwrap()
}

fn open(site: &Path, environment: &[(&str, &str)], stdin: Stdio) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child", "--nocapture"])
        .env(SITE, site)
        .env_remove("SOFTHSM2_CONF")
        .envs(environment.iter().copied())
        .stdin(stdin)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn right_pin() -> String {
    std::fs::read_to_string(demo().path("token/pin")).unwrap()
}

#[test]
fn the_pin_comes_from_the_site_the_environment_a_file_or_a_descriptor() {
    let site = demo().root();
    let pin = right_pin();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{pin}\n")).unwrap();
    let path = file.path().to_str().unwrap();
    let keys = KeyPolicy::load(&demo().path("key-policy.toml")).unwrap().keys.len();
    let first = format!("first: open, {keys} keys");
    let opened = |text: String| assert!(text.contains(&first) && text.contains("second: open"), "{text}");
    opened(open(site, &[], Stdio::null()));
    opened(open(site, &[("BINDERY_PIN", &pin)], Stdio::null()));
    opened(open(site, &[("BINDERY_PIN_FILE", path), ("BINDERY_PIN", "wrong")], Stdio::null()));
    let stdin = std::fs::File::open(path).unwrap().into();
    opened(open(site, &[("BINDERY_PIN_FD", "0"), ("BINDERY_PIN_FILE", "/nowhere")], stdin));
}

#[test]
fn a_wrong_pin_is_sent_once_and_never_again_by_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let site = copy(&directory.path().join("site"));
    // The second opening has the same value, and must not even try; the third reads another one, the right one.
    let environment = [("BINDERY_PIN", "wrong-pin-0001"), ("BINDERY_TEST_THEN_RIGHT", "1")];
    let text = open(site.root(), &environment, Stdio::null());
    assert!(
        text.contains("first: HsmUnusable: log in to token \"bindery-demo\" with the PIN: CKR_PIN_INCORRECT"),
        "{text}"
    );
    assert!(text.contains("the token refused the PIN before (CKR_PIN_INCORRECT); it is not sent again"), "{text}");
    assert!(text.contains("third: open"), "{text}");
    assert!(!text.contains("wrong-pin-0001"), "{text}");
    // One try of the token is gone, and no more: the right PIN still opens it.
    assert!(open(site.root(), &[], Stdio::null()).contains("first: open"));
}

#[test]
fn a_missing_pin_token_module_or_label_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let spoilt = |name: &str, spoil: &dyn Fn(&Site)| {
        let site = copy(&directory.path().join(name));
        spoil(&site);
        open(site.root(), &[], Stdio::null())
    };
    let edit = |site: &Site, from: &str, to: &str| {
        let file = site.path("bindery.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from));
        std::fs::write(file, text.replace(from, to)).unwrap();
    };
    let text = spoilt("pin", &|site| std::fs::remove_file(site.path("token/pin")).unwrap());
    assert!(text.contains("first: HsmUnusable: no PIN") && text.contains("hsm.pin_file"), "{text}");
    if provider() == Provider::SoftHsm {
        // Its token is in the site.
        let text = spoilt("token", &|site| std::fs::remove_dir_all(site.path("token")).unwrap());
        assert!(text.contains("first: HsmUnusable: token missing") && text.contains("bindery init"), "{text}");
        let text = spoilt("empty", &|site| {
            std::fs::remove_dir_all(site.path("token/tokens")).unwrap();
            std::fs::create_dir(site.path("token/tokens")).unwrap();
        });
        assert!(text.contains("no token is labelled \"bindery-demo\""), "{text}");
    }
    let text = spoilt("label", &|site| edit(site, "\"bindery-demo\"\n# File", "\"other\"\n# File"));
    assert!(text.contains("no token is labelled \"other\"; the module shows [\"bindery-demo\"]"), "{text}");
    let module = demo().config.hsm.module.display().to_string();
    let text = spoilt("module", &|site| edit(site, &module, "/nowhere/libpkcs11.so"));
    assert!(text.contains("first: HsmUnusable: PKCS#11 module /nowhere/libpkcs11.so is missing"), "{text}");
    let text = spoilt("no-module", &|site| edit(site, &module, "key-policy.toml"));
    assert!(text.contains("first: HsmUnusable: load PKCS#11 module"), "{text}");
}

#[test]
fn a_site_that_was_moved_or_copied_opens_its_own_token() {
    let directory = tempfile::tempdir().unwrap();
    let site = copy(&directory.path().join("copied"));
    assert!(open(site.root(), &[], Stdio::null()).contains("first: open"));
    if provider() == Provider::SoftHsm {
        let conf = std::fs::read_to_string(site.path("token/softhsm2.conf")).unwrap();
        assert!(conf.contains(site.path("token/tokens").to_str().unwrap()), "{conf}");
    }
    let moved = directory.path().join("moved");
    std::fs::rename(site.root(), &moved).unwrap();
    assert!(open(&moved, &[], Stdio::null()).contains("first: open"));
}
