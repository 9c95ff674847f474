"""The other implementation for json_oracle.rs: Google's protobuf for Python.

Usage: json_oracle.py DESCRIPTORS < cases > answers

A case is a line "TYPE\tHEX\tJSON"; either of the last two may be empty. Its answer is a line "JSON\tHEX": the JSON of the
message HEX, and the message of JSON in hexadecimal, or "refused" where it is none.
"""

import sys

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory


def main():
    files = descriptor_pb2.FileDescriptorSet()
    with open(sys.argv[1], "rb") as file:
        files.ParseFromString(file.read())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    for line in sys.stdin:
        name, binary, text = line.rstrip("\n").split("\t")
        message_type = message_class(pool.FindMessageTypeByName(name), pool)
        print(to_json(message_type, binary), to_binary(message_type, text), sep="\t")


def message_class(descriptor, pool):
    if hasattr(message_factory, "GetMessageClass"):  # since 4.22
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)


def to_json(message_type, binary):
    if not binary:
        return ""
    message = message_type.FromString(bytes.fromhex(binary))
    return json_format.MessageToJson(message, indent=None)


def to_binary(message_type, text):
    if not text:
        return ""
    try:
        # The contract: a reader skips what it does not know.
        message = json_format.Parse(text, message_type(), ignore_unknown_fields=True)
    except Exception:  # ParseError, or what a value of the wrong type makes the parser raise
        return "refused"
    return message.SerializeToString().hex() or "empty"


main()
