//! A model that is read from a file equals the model before writing.

mod common;

use common::{N_SEQ, fixtures, tokens, vocabulary};
use resnet_bk_runtime::internal::artifact::Artifact;
use resnet_bk_runtime::internal::tensor_id::TensorId;

#[test]
fn a_model_from_a_file_equals_the_fake_quantized_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.rbk");
    for fixture in fixtures() {
        let find = |id: TensorId| fixture.values.get(&id).map(Vec::as_slice);
        let artifact = Artifact::quantize(fixture.architecture.clone(), vocabulary(), find).unwrap();
        artifact.write(&path).unwrap();
        let read = Artifact::read(&path).unwrap();
        assert_eq!(read.vocabulary, vocabulary());

        let (trained, decoded) = (fixture.model(), read.to_model());
        assert_eq!(decoded.architecture(), trained.architecture());
        let tokens = tokens(N_SEQ + 5, 8);
        let hidden = |model: &resnet_bk_runtime::internal::model::Model| model.hidden(&tokens, &mut model.start());
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&hidden(&decoded)), bits(&hidden(&trained)), "{:?}", fixture.architecture);
        for (decoded, trained) in decoded.head().bins.iter().zip(&trained.head().bins) {
            assert_eq!(bits(decoded.rows.table), bits(trained.rows.table));
            assert_eq!(bits(decoded.rows.bias), bits(trained.rows.bias));
            assert_eq!(decoded.table.projection.map(bits), trained.table.projection.map(bits));
        }
    }
}
