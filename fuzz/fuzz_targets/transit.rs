#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| apptuner_relay_fuzz::transit::check(data));
