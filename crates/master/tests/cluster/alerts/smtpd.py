"""A mail server for tests: aiosmtpd, which says on stdout what it takes, a line of JSON each.

smtpd.py PORT starttls|tls CERTIFICATE KEY USER PASSWORD
"""

import asyncio
import email
import email.policy
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult


class Handler:
    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        told = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "subject": message["subject"],
            "id": message["message-id"],
            "body": message.get_content(),
            "tls": server.transport.get_extra_info("sslcontext") is not None,
        }
        print(json.dumps(told), flush=True)
        return "250 taken"


def main():
    port, way, certificate, key, user, password = sys.argv[1:]
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    def authenticate(server, session, envelope, mechanism, data):
        good = (data.login, data.password) == (user.encode(), password.encode())
        return AuthResult(success=good, handled=False)

    def protocol():
        starttls = way == "starttls"
        return SMTP(
            Handler(),
            hostname="localhost",
            authenticator=authenticate,
            auth_required=True,
            auth_require_tls=starttls,
            require_starttls=starttls,
            tls_context=context if starttls else None,
        )

    async def serve():
        wrapped = context if way == "tls" else None
        server = await asyncio.get_running_loop().create_server(
            protocol, "127.0.0.1", int(port), ssl=wrapped
        )
        print("ready", flush=True)
        await server.serve_forever()

    asyncio.run(serve())


main()
