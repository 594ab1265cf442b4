from clients_script import scripted

__all__ = ["scripted"]
