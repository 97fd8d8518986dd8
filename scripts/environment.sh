# Sourced by demo.sh, test.sh and .ci/: creates .venv in this checkout and installs the package with the given extras.
#   environment EXTRA [EXTRA ...]
# Afterwards $PYTHON is the environment's interpreter. RPFNET_VENV names another folder.

environment() {
    local venv="${RPFNET_VENV:-.venv}" extras="$*" base="" candidate
    # CUDA is 5.7 GB: only where there is a GPU to use it.
    if command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; then extras="$extras cuda12"; fi
    extras="$(echo $extras | tr ' ' ',')"
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        if [ -e "$venv" ] && [ ! -e "$venv/pyvenv.cfg" ]; then echo "error: $venv exists and is no virtual environment" >&2; exit 1; fi
        for candidate in "${RPFNET_PYTHON:-python3}" python3.13 python3.12 python3.11 python; do
            if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then base="$candidate"; break; fi
        done
        if [ -z "$base" ]; then echo "error: Python 3.11 or newer is needed (RPFNET_PYTHON names one)" >&2; exit 1; fi
        echo "making $venv with $("$base" --version)"
        # On Debian and Ubuntu, venv is a package of its own.
        "$base" -m venv --clear "$venv" || { echo "error: no venv module; on Debian: apt install python3-venv" >&2; exit 1; }
    fi
    PYTHON="$venv/bin/python"
    local state="$venv/.installed-$extras"
    if [ ! -e "$state" ] || [ pyproject.toml -nt "$state" ] || [ rpfnet_jax/native/winograd.cc -nt "$state" ]; then
        echo "installing rpfnet-jax${extras:+[$extras]}"
        "$PYTHON" -m pip install --quiet --disable-pip-version-check --editable ".${extras:+[$extras]}"
        touch "$state"
    fi
}
