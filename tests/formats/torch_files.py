# SPDX-License-Identifier: Apache-2.0
"""PyTorch's file format without PyTorch: state dicts of NumPy arrays as torch.save writes them, with Python's own
pickler and zipfile. test_torch_checkpoints.py holds its output to a file of the real one, byte for byte."""

import collections
import io
import pickle
import struct
import zipfile

import numpy as np

# numpy's name of a type -> torch's storage class. bfloat16 is not NumPy's: uint16 arrays marked with Storage("BFloat16").
STORAGES = {
    "float32": "Float",
    "float16": "Half",
    "float64": "Double",
    "int32": "Int",
    "int64": "Long",
    "int16": "Short",
    "int8": "Char",
    "uint8": "Byte",
    "bool": "Bool",
}


class Global:
    """A function or class that only its name is known of."""

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __call__(self):
        raise AssertionError("nothing here is called")


def names(module, *keys):
    return {key: Global(module, key) for key in keys}


UTILS = names("torch._utils", "_rebuild_tensor_v2", "_rebuild_parameter")
CLASSES = names("torch", *(f"{s}Storage" for s in [*STORAGES.values(), "BFloat16"]))
CPU, STORAGE = "cpu", "storage"  # single objects: the pickler's memo goes by identity


class Storage:
    def __init__(self, flat, kind=None):
        self.flat = np.ascontiguousarray(flat).reshape(-1)
        self.kind = kind or STORAGES[self.flat.dtype.name]
        self.key = None


class Tensor:
    """A view of a storage; a whole array by default."""

    def __init__(self, storage, offset=0, shape=None, strides=None):
        self.storage, self.offset = storage, offset
        self.shape = tuple(storage.flat.shape) if shape is None else tuple(shape)
        self.strides = (1,) if strides is None else tuple(strides)

    @staticmethod
    def of(array):
        array = np.asarray(array)
        strides = np.cumprod([1, *reversed([max(d, 1) for d in array.shape[1:]])])[::-1] if array.ndim else []
        return Tensor(Storage(array), 0, array.shape, [int(s) for s in strides])

    def array(self):
        """The values that a reader must see."""
        flat = self.storage.flat
        strides = [s * flat.itemsize for s in self.strides]
        return np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, strides).copy()

    def t(self):
        return Tensor(self.storage, self.offset, self.shape[::-1], self.strides[::-1])

    def __reduce_ex__(self, protocol):
        args = (self.storage, self.offset, self.shape, self.strides, False, collections.OrderedDict())
        return UTILS["_rebuild_tensor_v2"], args


class Parameter:
    def __init__(self, tensor):
        self.tensor = tensor

    def __reduce_ex__(self, protocol):
        return UTILS["_rebuild_parameter"], (self.tensor, True, collections.OrderedDict())


class Pickler(pickle._Pickler):  # the one in Python: the other cannot write names that it cannot import
    def __init__(self, out):
        super().__init__(out, protocol=2)
        self.storages = []

    def persistent_id(self, obj):
        if not isinstance(obj, Storage):
            return None
        if obj not in self.storages:
            obj.key = str(len(self.storages))
            self.storages.append(obj)
        return (STORAGE, CLASSES[f"{obj.kind}Storage"], obj.key, CPU, obj.flat.size)

    def save_name(self, obj):
        self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        self.memoize(obj)

    dispatch = {**pickle._Pickler.dispatch, Global: save_name}


def data_pkl(obj):
    out = io.BytesIO()
    pickler = Pickler(out)
    pickler.dump(obj)
    return out.getvalue(), pickler.storages


class Stream(io.RawIOBase):
    """A file without seek, so that zipfile writes sizes after the data, as torch does."""

    def __init__(self, file):
        self.file = file

    def writable(self):
        return True

    def write(self, data):
        return self.file.write(data)


def write_zip(path, entries, compression=zipfile.ZIP_STORED):
    with open(path, "wb") as file, zipfile.ZipFile(Stream(file), "w", compression) as z:
        for name, data in entries.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = compression
            pad = -(file.tell() + 30 + len(name) + 4) % 64  # data begins at a multiple of 64
            info.extra = b"FB" + struct.pack("<H", pad) + b"Z" * pad
            z.writestr(info, data)


def save(path, obj, extra=None, **kwargs):
    """torch.save(obj, path), more or less."""
    text, storages = data_pkl(obj)
    entries = {"archive/data.pkl": text}
    entries |= {f"archive/data/{s.key}": s.flat.tobytes() for s in storages}
    write_zip(path, entries | {"archive/version": b"3\n"} | (extra or {}), **kwargs)
