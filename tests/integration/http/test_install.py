from broker.desktop.stub import install_script
from tests.support.api import Api


async def test_the_stubs_installer_is_served_to_whoever_asks_and_is_the_same_by_any_name(user: Api) -> None:
    answer = await user.bearing(None).call("GET", "/guest/install", headers={"Host": "$(reboot).example"})
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/x-shellscript; charset=utf-8"
    assert answer.body.decode() == install_script()
