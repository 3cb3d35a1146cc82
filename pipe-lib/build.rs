//! Generates the parser from `src/grammar.lalrpop`, and says whether the native backend is in this build
//! (`cfg(native)`).

fn main() {
    println!("cargo::rustc-check-cfg=cfg(native)");
    let is_x86_64 = std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64");
    if is_x86_64 && std::env::var_os("CARGO_FEATURE_NATIVE").is_some() {
        println!("cargo::rustc-cfg=native");
    }
    lalrpop::Configuration::new()
        .use_cargo_dir_conventions()
        .emit_rerun_directives(true)
        .process()
        .expect("the grammar is checked in and compiles");
}
