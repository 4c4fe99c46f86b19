"""The network: DINOv2 backbone, neck, deformable attention, decoder, detector."""
