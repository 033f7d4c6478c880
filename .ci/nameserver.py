"""A DNS server for tests: addresses of the names that it is told to know, and nothing else."""
import socket, struct, threading

A = 1


class Nameserver:
    def __init__(self, address, lookup):
        """`lookup` has a name's IPv4 address, or None."""
        self.lookup, self.asked = lookup, []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 53))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            query, caller = self.socket.recvfrom(512)
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1 : at + 1 + query[at]].decode())
                at += 1 + query[at]
            name, (kind,) = ".".join(labels), struct.unpack("!H", query[at + 1 : at + 3])
            self.asked.append(name)
            address = self.lookup(name)
            answers = int(address is not None and kind == A)
            head = query[:2] + struct.pack("!HHHHH", 0x8180 if address else 0x8183, 1, answers, 0, 0)
            record = struct.pack("!HHHIH", 0xC00C, A, 1, 5, 4) + socket.inet_aton(address) if answers else b""
            self.socket.sendto(head + query[12 : at + 5] + record, caller)
