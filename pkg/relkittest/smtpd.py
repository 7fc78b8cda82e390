# A mail server for tests: aiosmtpd, with what options.json (the first argument)
# says. It prints its port and puts each mail it takes into the folder named
# there: N.eml as it came, N.txt with its headers and text decoded.
import asyncio, email, email.policy, json, os, ssl, sys

from aiosmtpd.smtp import SMTP, AuthResult

o = json.load(open(sys.argv[1]))
taken = 0


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address in (o.get("refuse") or []):
            return "550 5.1.1 no such user here"
        if address in (o.get("defer") or []):
            return "450 4.2.0 greylisted, come back later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        global taken
        if o.get("hang"):
            await asyncio.sleep(3600)
        if o.get("reject"):
            return "554 5.7.1 we do not want this"
        taken += 1
        name = os.path.join(o["dir"], str(taken))
        head = "X-Envelope-From: %s\r\nX-Envelope-To: %s\r\nX-Session: %s %s\r\n" % (
            envelope.mail_from, ", ".join(envelope.rcpt_tos),
            "encrypted" if server.transport.get_extra_info("ssl_object") else "plain",
            session.auth_data.login.decode() if session.auth_data else "-")
        m = email.message_from_bytes(envelope.content, policy=email.policy.default)
        with open(name + ".txt.new", "w", encoding="utf-8") as f:
            f.write(head.replace("\r", ""))
            for k, v in m.items():
                f.write("%s: %s\n" % (k, v))
            f.write("\n" + m.get_body(("plain",)).get_content().replace("\r", ""))
            for a in m.iter_attachments():
                f.write("--- %s\n%s" % (a.get_filename(), a.get_payload(decode=True).decode("utf-8", "replace")))
        os.rename(name + ".txt.new", name + ".txt")
        with open(name + ".eml.new", "wb") as f:
            f.write(head.encode() + envelope.content)
        os.rename(name + ".eml.new", name + ".eml")
        return "250 2.0.0 taken"


def authenticate(server, session, envelope, mechanism, data):
    good = (data.login.decode(), data.password.decode()) == (o["user"], o["password"])
    return AuthResult(success=good, handled=False, auth_data=data)


async def main():
    context = None
    if o.get("tls"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(o["cert"], o["key"])
    starttls = o.get("tls") == "starttls"

    def session():
        return SMTP(Handler(), hostname="mx.example.com", timeout=3600,
                    tls_context=context if starttls else None,
                    auth_require_tls=starttls, auth_required=bool(o.get("user")),
                    authenticator=authenticate if o.get("user") else None)

    server = await asyncio.get_running_loop().create_server(
        session, "127.0.0.1", 0, ssl=context if o.get("tls") == "implicit" else None)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
