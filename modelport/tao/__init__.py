"""TAO: NVIDIA's inference-microservice API and agent skill, translated to Specs and Services. It keeps no state."""
