#!/bin/bash
# GPU nodes under Slurm: one rank per GPU.  Submit it with
#   sbatch examples/cluster/slurm_gpu.sh examples/tfim_chain.toml
#SBATCH --job-name=vmc
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gres=gpu:4
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append

run=runs/slurm-$SLURM_JOB_ID
if [ -d "$run" ]; then
    set -- resume "$run"
else
    set -- run "$1" --set run.out="$run"
fi
srun -K --mpi=none vmc "$@"
code=$?
if [ $code -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit $code
