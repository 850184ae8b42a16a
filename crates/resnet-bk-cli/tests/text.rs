//! Help and error texts, as a user sees them. `TRYCMD=overwrite cargo test -p resnet-bk-cli --test text` takes new ones.

#[test]
fn texts_are_as_they_were() {
    trycmd::TestCases::new().case("tests/snapshots/*.trycmd");
}
