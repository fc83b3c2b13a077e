#![no_main]

libfuzzer_sys::fuzz_target!(|der: &[u8]| {
    bindery_fuzz::gauntlet::elements(der);
});
