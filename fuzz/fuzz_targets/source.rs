#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| bindery_fuzz::gauntlet::source(text));
