//! Every CRC of the catalogue of up to 64 bits runs several words at once on every machine that the native
//! backend runs on.

use crate::features::machines;
use crate::library::catalogue;
use crate::select::select;
use crate::{Backend, CompileOptions, Library};

#[test]
fn every_crc_of_the_catalogue_is_wide_on_every_machine() {
    let library = Library::standard();
    // A state has 64 bits: wider ones run word by word.
    for crc in catalogue().iter().filter(|crc| crc.width <= 64) {
        let pipeline = library.pipeline(&crc.name).unwrap();
        for (machine, features) in machines::NATIVE {
            let options = CompileOptions { features: Some(features), ..Backend::Auto.into() };
            let (_, made) = select(pipeline.composition(), &options).unwrap();
            let wide = made.len() == 1 && made[0].backend == Backend::Native && !made[0].code.is_serial();
            assert!(wide, "{} on {machine}", crc.title);
        }
    }
}
