"""first slice"""
import copy, sys, time, json, traceback
from pathlib import Path
import torch
from pretended_gpu import pretended_gpu, fault_line
from synthetic import make_subject
root = Path(sys.argv[1])
if not root.exists(): make_subject(root, size=48, count=12)
from flame_nerf.methods import flame_nerf as method
from flame_nerf.dataparser import FlameNerfDataParserConfig
from nerfstudio.engine.callbacks import TrainingCallbackAttributes
config = copy.deepcopy(method.config)
config.data = config.pipeline.datamanager.data = root
config.output_dir = Path("/tmp/reh/out"); config.timestamp="t"; config.vis="tensorboard"
config.pipeline.datamanager.train_num_rays_per_batch = 512
config.pipeline.model.loss_coefficients.depth_loss = 1e-3
config.max_num_iterations = 12
with pretended_gpu() as record:
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    print("devices", {p.device for p in trainer.pipeline.model.parameters()}, {b.device for b in trainer.pipeline.model.buffers()})
    trainer.train()
print(record.waits.most_common(50)); print(record.launches.most_common(60))
