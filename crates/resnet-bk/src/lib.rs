//! Training and compression of ResNet-BK language models.
