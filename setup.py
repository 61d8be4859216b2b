"""What pyproject.toml cannot say: FDAM's C++ for the CPU, and that configs/ lies within the installed package."""

from setuptools import Extension, find_packages, setup

FOLDER = "fdam_rotate/models/layers/cpu"

setup(
    packages=[*find_packages(include=["fdam_rotate*"]), "fdam_rotate.configs"],
    package_dir={"fdam_rotate.configs": "configs"},
    ext_modules=[
        Extension(
            "fdam_rotate.models.layers.cpu._kernels",
            sources=[f"{FOLDER}/kernels.cpp"],
            depends=[f"{FOLDER}/{name}.h" for name in ("lanes", "sums", "fft", "freq_scale", "gate", "logits")],
            # -Wno-psabi: vectors pass between the functions of one file only
            extra_compile_args=[
                "-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi", "-fopenmp",
            ],
            extra_link_args=["-fopenmp"],
            optional=True,  # without a C++ compiler the package still installs, and takes torch's operations
        )
    ]
)  # fmt: skip
