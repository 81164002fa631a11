"""JAX knows one width of numbers per process: these tests run where `JAX_ENABLE_X64=1` is in the environment."""

import os

collect_ignore_glob = [] if "JAX_ENABLE_X64" in os.environ else ["test_*.py"]
# what runs once need not be fast: compiling is where the time goes; four devices for what is sharded
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_force_host_platform_device_count=4",
)
